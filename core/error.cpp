#include "core/error.h"

#include <algorithm>
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
}  // namespace

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t least = std::max<size_t>(2, word.size() / 3) + 1;
  for (const auto& candidate : candidates)
    if (const size_t d = distance(word, candidate); d < least) {
      least = d;
      best = candidate;
    }
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
  sentence = sentence.substr(0, sentence.find('\n', 1));
  for (char& c : sentence)
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = ' ';
  return sentence.size() <= 1000 ? sentence : sentence.substr(0, 1000) + "…";
}

}  // namespace evoke
