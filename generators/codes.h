// What is known of the codes of real images: mean, covariance and range, for codes of any shape.
#pragma once
#include <memory>
#include <string>

#include "core/numbers/tensor.h"

namespace evoke {

/// Moments and range of codes; float32 on the CPU. They come in three forms, which their shapes tell apart (S numbers a code):
///
/// | form     | for                             | mean, low, high | covariance               |
/// |----------|---------------------------------|-----------------|--------------------------|
/// | full     | small codes of any shape        | [latent…]       | [S,S]                    |
/// | channel  | codes [C,H,W], of any H and W   | [C,1,1]         | [C,C], the same anywhere |
/// | diagonal | large codes                     | [latent…]       | [latent…], the variances |
///
/// Covariances are divided by N - 1, N the number of codes (of places, by channel).
struct CodeStatistics {
  Tensor mean, covariance, low, high;

  /// Standard deviations, like mean.
  Tensor deviation() const;
  /// Throws Failure::input unless these are statistics of codes of shape `latent`. `where` begins the sentence.
  void require_fit(const std::vector<int64_t>& latent, std::string_view where) const;
};

/// "auto" is channel for codes [C,H,W]; for others full up to 4,096 numbers and diagonal above.
inline const std::vector<std::string> code_forms{"auto", "full", "channel", "diagonal"};

/// Sums up codes that arrive in parts, in float64: no more than a part is held.
class CodeSums {
 public:
  /// Throws Failure::usage for a form that is none, Failure::input for `channel` of codes that have no channels.
  explicit CodeSums(const std::vector<int64_t>& latent, const std::string& form = "auto");
  ~CodeSums();
  /// codes [M,latent…], on any device.
  void add(const Tensor& codes);
  /// Throws Failure::input where fewer than two codes were added.
  CodeStatistics statistics() const;

 private:
  struct Sums;
  std::unique_ptr<Sums> sums_;
};

/// Of codes [N,latent…] at once, N ≥ 2.
CodeStatistics code_statistics(const Tensor& codes, const std::string& form = "auto");
/// Those of N(0, 1): low and high are -3 and 3. By channel for codes [C,H,W].
CodeStatistics standard_statistics(const std::vector<int64_t>& latent);

/// A file of statistics alone, of codes of shape `latent`: written atomically, kind "codes".
void save_codes(const std::string& file, const CodeStatistics&, const std::vector<int64_t>& latent);
/// Throws Failure::input when the file holds none, or those of other codes than `latent` (empty: of any).
CodeStatistics load_codes(const std::string& file, const std::vector<int64_t>& latent = {});

/// As tensors by name, for files that hold more: "mean", "covariance", "low", "high".
Tensors pack(const CodeStatistics&);
/// Takes them out of `from`, where they stand under `prefix`. Throws Failure::input when one is missing or they do not fit `latent` (empty:
/// any).
CodeStatistics take_statistics(Tensors& from, const std::string& prefix, const std::vector<int64_t>& latent, const std::string& file);

}  // namespace evoke
