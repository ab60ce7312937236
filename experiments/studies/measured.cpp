#include "experiments/studies/measured.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

#include "core/error.h"
#include "experiments/judging/table.h"

namespace evoke {

namespace {

// A word that is a number, all of it.
bool is_number(const std::string& word, double& value) {
  std::istringstream in(word);
  in >> value;
  return !in.fail() && in.peek() == std::char_traits<char>::eof();
}

// Words between blanks; names of numbers may hold blanks, so a side of a claim is joined again.
std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(' '), end = text.find_last_not_of(' ');
  return begin == std::string::npos ? "" : text.substr(begin, end - begin + 1);
}

// One side: a number, a name, or "number * name".
double side_of(const std::string& text, const Numbers& numbers) {
  const std::string side = trimmed(text);
  double value = 0;
  if (is_number(side, value)) return value;
  if (const size_t times = side.find(" * "); times != std::string::npos && is_number(trimmed(side.substr(0, times)), value))
    return value * number_named(trimmed(side.substr(times + 3)), numbers);
  return number_named(side, numbers);
}

// An inclusive range of round numbers that holds [low, high], and the step between ticks.
struct Axis {
  double low, high, step;
};
Axis axis_of(double low, double high) {
  if (!(high > low)) high = low + 1;
  const double raw = (high - low) / 5, power = std::pow(10.0, std::floor(std::log10(raw))), share = raw / power;
  const double step = power * (share <= 1 ? 1 : share <= 2 ? 2 : share <= 5 ? 5 : 10);
  return {std::floor(low / step) * step, std::ceil(high / step) * step, step};
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '<')
      out += "&lt;";
    else if (c == '&')
      out += "&amp;";
    else
      out += c;
  }
  return out;
}

}  // namespace

void add_numbers(Numbers& numbers, const std::string& prefix, const Measured& table) {
  for (const auto& [row, values] : table.rows)
    for (size_t i = 0; i < table.columns.size(); ++i)
      numbers[text(prefix.empty() ? "" : prefix + "/", row, "/", table.columns[i])] = values[i];
}

double number_named(const std::string& name, const Numbers& numbers) {
  const auto found = numbers.find(name);
  if (found != numbers.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [one, value] : numbers) names.push_back(one);
  fail(Failure::input, "study: found no number '", name, "'", did_you_mean(name, names));
}

std::string number_text(double value) {
  if (std::isnan(value)) return "-";
  const double size = std::abs(value);
  std::ostringstream out;
  if (size > 0 && (size < 1e-3 || size >= 1e6)) {
    out.precision(2);
    out << value;
  } else {
    out.setf(std::ios::fixed);
    out.precision(size < 10 ? 3 : size < 1000 ? 1 : 0);
    out << value;
  }
  return out.str();
}

std::string short_number(double value) {
  std::string out = number_text(value);
  if (out.find('.') == std::string::npos || out.find('e') != std::string::npos) return out;
  out.erase(out.find_last_not_of('0') + 1);
  if (out.back() == '.') out.pop_back();
  return out;
}

std::string markdown_of(const Measured& table) {
  std::vector<std::vector<std::string>> lines{{table.first_column}};
  lines[0].insert(lines[0].end(), table.columns.begin(), table.columns.end());
  for (const auto& [name, values] : table.rows) {
    lines.push_back({name});
    for (const double value : values) lines.back().push_back(number_text(value));
  }
  return markdown(lines);
}

std::string curves_svg(const Measured& table) {
  constexpr double left = 56, top = 34, wide = 420, tall = 230, room = 190;
  const std::vector<std::string> colours{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555", "#8b5cf6"};
  std::vector<double> xs;
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const auto& [name, values] : table.rows) {
    double x = 0;
    require(is_number(name, x), Failure::runtime, "curves: found the row '", name, "', expected a number");
    xs.push_back(x);
    for (const double y : values)
      if (std::isfinite(y)) low = std::min(low, y), high = std::max(high, y);
  }
  if (!std::isfinite(low)) low = 0, high = 1;
  const Axis y_axis = axis_of(low, high),
             x_axis = axis_of(*std::min_element(xs.begin(), xs.end()), *std::max_element(xs.begin(), xs.end()));
  const auto px = [&](double x) { return left + wide * (x - x_axis.low) / (x_axis.high - x_axis.low); };
  const auto py = [&](double y) { return top + tall * (1 - (y - y_axis.low) / (y_axis.high - y_axis.low)); };
  std::ostringstream out;
  out.setf(std::ios::fixed);
  out.precision(1);
  out << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " << left + wide + room << " " << top + tall + 48
      << "\" font-family=\"sans-serif\" font-size=\"12\" role=\"img\">\n<title>" << escaped(table.title) << "</title>\n"
      << "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n<text x=\"" << left << "\" y=\"18\" font-weight=\"bold\">"
      << escaped(table.title) << "</text>\n";
  for (double y = y_axis.low; y <= y_axis.high + y_axis.step / 2; y += y_axis.step)
    out << "<line x1=\"" << left << "\" x2=\"" << left + wide << "\" y1=\"" << py(y) << "\" y2=\"" << py(y) << "\" stroke=\"#dddddd\"/>"
        << "<text x=\"" << left - 6 << "\" y=\"" << py(y) + 4 << "\" text-anchor=\"end\">" << short_number(y) << "</text>\n";
  for (double x = x_axis.low; x <= x_axis.high + x_axis.step / 2; x += x_axis.step)
    out << "<text x=\"" << px(x) << "\" y=\"" << top + tall + 16 << "\" text-anchor=\"middle\">" << short_number(x) << "</text>\n";
  out << "<text x=\"" << left + wide / 2 << "\" y=\"" << top + tall + 36 << "\" text-anchor=\"middle\">" << escaped(table.first_column)
      << "</text>\n";
  // Names at the ends of their lines, pushed apart where they would overlap.
  std::vector<std::pair<double, size_t>> ends;
  for (size_t i = 0; i < table.columns.size(); ++i) {
    out << "<polyline fill=\"none\" stroke-width=\"2\" stroke=\"" << colours[i % colours.size()] << "\" points=\"";
    double last = std::numeric_limits<double>::quiet_NaN();
    for (size_t row = 0; row < xs.size(); ++row)
      if (const double y = table.rows[row].second[i]; std::isfinite(y)) out << px(xs[row]) << "," << py(y) << " ", last = py(y);
    out << "\"/>\n";
    if (std::isfinite(last)) ends.emplace_back(last, i);
  }
  std::sort(ends.begin(), ends.end());
  double above = -1e9;
  for (const auto& [y, i] : ends) {
    const double place = std::max(y + 4, above + 14);
    above = place;
    out << "<text x=\"" << left + wide + 8 << "\" y=\"" << place << "\" fill=\"" << colours[i % colours.size()] << "\">"
        << escaped(table.columns[i]) << "</text>\n";
  }
  out << "</svg>\n";
  return out.str();
}

std::string with_numbers(const std::string& sentence, const Numbers& numbers) {
  std::string out;
  for (size_t at = 0; at < sentence.size();) {
    const size_t open = sentence.find('{', at), close = open == std::string::npos ? open : sentence.find('}', open);
    if (close == std::string::npos) return out + sentence.substr(at);
    out += sentence.substr(at, open - at) + number_text(number_named(sentence.substr(open + 1, close - open - 1), numbers));
    at = close + 1;
  }
  return out;
}

std::string verdict_of(const std::vector<std::string>& claims, const Numbers& numbers) {
  if (claims.empty()) return "cannot be said";
  bool known = true, holds = true;
  for (const std::string& claim : claims) {
    size_t at = std::string::npos;
    std::string sign;
    for (const char* one : {" >= ", " <= ", " > ", " < ", " ~ "})
      if (at = claim.find(one); at != std::string::npos) {
        sign = trimmed(one);
        break;
      }
    require(!sign.empty(), Failure::input, "study: found the claim '", claim,
            "', expected two numbers or names with >, >=, <, <= or ~ between");
    const double left = side_of(claim.substr(0, at), numbers), right = side_of(claim.substr(at + sign.size() + 2), numbers);
    if (std::isnan(left) || std::isnan(right)) {
      known = false;
      continue;
    }
    holds = holds && (sign == ">"    ? left > right
                      : sign == ">=" ? left >= right
                      : sign == "<"  ? left < right
                      : sign == "<=" ? left <= right
                                     : std::abs(left - right) <= 0.1 * std::max(std::abs(left), std::abs(right)));
  }
  return !holds ? "does not agree" : known ? "agrees" : "cannot be said";
}

}  // namespace evoke
