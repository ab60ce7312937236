#include "core/error.h"

#include <algorithm>
#include <cctype>
#include <numeric>

namespace evoke {

namespace {
// Levenshtein distance, one row of the table at a time.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string lower(std::string_view word) {
  std::string out(word);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

// Does `candidate` hold each word of `words`, as a word or the beginning of one?
bool holds_every_word(const std::string& candidate, const std::string& words) {
  std::istringstream stream(words);
  std::string word;
  bool any = false;
  while (stream >> word) {
    any = true;
    if ((" " + candidate).find(" " + word) == std::string::npos) return false;
  }
  return any;
}
}  // namespace

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  const std::string typed = lower(word);
  size_t least = std::max<size_t>(2, word.size() / 3) + 1;
  for (const auto& candidate : candidates)
    if (const size_t d = distance(typed, lower(candidate)); d < least) {
      least = d;
      best = candidate;
    }
  if (!best.empty() || typed.size() < 3) return best;
  for (const auto& candidate : candidates)
    if (holds_every_word(lower(candidate), typed) && (best.empty() || candidate.size() < best.size())) best = candidate;
  return best;
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates) {
  const std::string near = nearest(word, candidates);
  return (near.empty() ? "" : " (did you mean '" + near + "'?)") + "; expected one of " + list_of(candidates);
}

std::string list_of(const std::vector<std::string>& words, size_t most) {
  std::string out;
  for (size_t i = 0; i < std::min(most, words.size()); ++i) out += (i ? ", " : "") + words[i];
  if (words.size() > most) out += text(", … (", words.size(), " in all)");
  return out;
}

std::string one_line(std::string sentence) {
  // "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: …"
  if (sentence.starts_with("[enforce fail at ")) {
    const size_t place = sentence.find("] "), condition = sentence.find(". ", place);
    if (place != std::string::npos) sentence = sentence.substr(condition == std::string::npos ? place + 2 : condition + 2);
  }
  sentence = sentence.substr(0, sentence.find('\n', 1));
  for (char& c : sentence)
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = ' ';
  return sentence.size() <= 1000 ? sentence : sentence.substr(0, 1000) + "…";
}

}  // namespace evoke
