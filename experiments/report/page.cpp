#include "experiments/report/page.h"

#include <array>
#include <fstream>

#include "core/error.h"
#include "core/storage/files.h"

namespace evoke {

namespace {

constexpr std::pair<char, std::string_view> entities[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}, {'\'', "&#39;"}};
constexpr std::string_view exemplars_mark = "<meta name=\"evoke-exemplars\" content=\"";

// What a script or a style sheet is called in a content security policy.
std::string policy_hash(std::string_view content) {
  const std::string digits = sha256(content);
  std::string bytes;
  for (size_t i = 0; i < digits.size(); i += 2) bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  return "'sha256-" + base64(bytes) + "'";
}

}  // namespace

std::string escaped(std::string_view words) {
  std::string out;
  for (const char c : words) {
    const auto* entity = std::find_if(std::begin(entities), std::end(entities), [c](const auto& one) { return one.first == c; });
    if (entity == std::end(entities))
      out += c;
    else
      out += entity->second;
  }
  return out;
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t held = std::min<size_t>(3, bytes.size() - i);
    uint32_t bits = 0;
    for (size_t k = 0; k < 3; ++k) bits = bits << 8 | (k < held ? static_cast<unsigned char>(bytes[i + k]) : 0);
    for (size_t k = 0; k < 4; ++k) out += k <= held ? letters[bits >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

std::string data_of(const nlohmann::json& data) {
  const std::string plain = data.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  std::string out;
  out.reserve(plain.size());
  for (const char c : plain)  // outside of strings JSON has no '<'
    if (c == '<')
      out += "\\u003c";
    else
      out += c;
  return out;
}

std::string page_of(const std::string& title, const std::string& exemplars, const std::string& summary,
                    const std::vector<std::string>& pieces) {
  std::string policy = text("default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; style-src ", policy_hash(page_style),
                            "; script-src ", policy_hash(page_script));
  std::string data = "<script type=\"application/json\" id=\"summary\">" + summary + "</script>\n";
  size_t bytes = data.size() + page_text.size() + page_style.size() + page_script.size();
  for (const std::string& piece : pieces) bytes += piece.size() + 80;

  // The text has a mark for each of these, in this order.
  const std::pair<std::string_view, std::string> fillings[] = {
      {"{{policy}}", std::move(policy)},
      {"{{exemplars}}", exemplars.empty() ? "" : text(exemplars_mark, escaped(exemplars), "\">")},
      {"{{title}}", escaped(title)},
      {"{{style}}", std::string(page_style)},
      {"{{heading}}", escaped(title)},
      {"{{data}}", std::move(data)},
      {"{{script}}", std::string(page_script)},
      {"{{rest}}", ""}};
  std::string out;
  out.reserve(bytes + 4096);
  const auto add_pieces = [&](size_t first, size_t end) {
    for (size_t i = first; i < end; ++i)
      out += "<script type=\"application/json\" id=\"piece-" + std::to_string(i) + "\">" + pieces[i] + "</script>\n";
  };
  // The page comes to life behind its first pictures, while the rest is still read.
  const size_t early = std::min<size_t>(1, pieces.size());
  size_t at = 0;
  for (const auto& [mark, filling] : fillings) {
    const size_t next = page_text.find(mark, at);
    require(next != std::string_view::npos, Failure::runtime, "report: found no ", mark, " in the page's text, expected one in its place");
    out += page_text.substr(at, next - at);
    out += filling;
    if (mark == "{{data}}") add_pieces(0, early);
    if (mark == "{{rest}}") add_pieces(early, pieces.size());
    at = next + mark.size();
  }
  out += page_text.substr(at);
  return out;
}

std::string remembered_exemplars(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  std::string head(4096, '\0');
  in.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<size_t>(in.gcount()));
  const size_t begin = head.find(exemplars_mark);
  if (begin == std::string::npos) return {};
  const size_t from = begin + exemplars_mark.size(), end = head.find('"', from);
  if (end == std::string::npos) return {};
  std::string out = head.substr(from, end - from);
  for (const auto& [character, entity] : entities) {
    if (character == '&') continue;  // last: it begins all the others
    for (size_t at = out.find(entity); at != std::string::npos; at = out.find(entity, at + 1)) out.replace(at, entity.size(), 1, character);
  }
  for (size_t at = out.find("&amp;"); at != std::string::npos; at = out.find("&amp;", at + 1)) out.replace(at, 5, "&");
  return out;
}

}  // namespace evoke
