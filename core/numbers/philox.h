// The numbers themselves, for host and device: Philox4x32-10, and a normal quantile that rounds alike on both.
// Compiled without contraction (-ffp-contract=off, -fmad=false): every fused multiply-add here is written out.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define EVOKE_BOTH __host__ __device__ inline
#else
#define EVOKE_BOTH inline
#endif

namespace evoke {

struct PhiloxWords {
  uint32_t word[4];
};

/// How many draws a stream gives at one step, and the last word of the counter of draw d of chain c, which has 52 bits: its upper 20 stand
/// above the draw's 12.
constexpr uint32_t stream_draws = 4096;
EVOKE_BOTH uint32_t stream_word(int64_t chain, uint32_t draw) {
  return draw + stream_draws * static_cast<uint32_t>(static_cast<uint64_t>(chain) >> 32);
}

/// Philox4x32-10 (Salmon 2011): ten rounds on a 128-bit counter with a 64-bit key.
EVOKE_BOTH PhiloxWords philox(PhiloxWords counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter.word[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter.word[2];
    const uint32_t high0 = static_cast<uint32_t>(product0 >> 32), low0 = static_cast<uint32_t>(product0);
    const uint32_t high1 = static_cast<uint32_t>(product1 >> 32), low1 = static_cast<uint32_t>(product1);
    counter = {{high1 ^ counter.word[1] ^ key0, low1, high0 ^ counter.word[3] ^ key1, low0}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

/// ln(x) for a positive normal double, from the exponent and the series of atanh; relative error below 1e-15.
EVOKE_BOTH double exact_log(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  bits = (bits & 0x000FFFFFFFFFFFFFull) | 0x3FF0000000000000ull;
  double m;
  memcpy(&m, &bits, sizeof m);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  const double s = (m - 1.0) / (m + 1.0), s2 = s * s;
  double sum = 0.0;
  for (int k = 21; k >= 3; k -= 2) sum = fma(sum, s2, 1.0 / k);
  sum = fma(sum * s2, s, s);
  return fma(static_cast<double>(exponent), 0.6931471805599453, 2.0 * sum);
}

/// The value below which a standard normal number falls with probability p in (0, 1). Wichura 1988, algorithm AS241 (PPND16).
EVOKE_BOTH double normal_quantile(double p) {
  const double q = p - 0.5;
  double r, above, below;
  if (fabs(q) <= 0.425) {
    r = fma(-q, q, 0.180625);
    above = fma(fma(fma(fma(fma(fma(fma(2.5090809287301226727e3, r, 3.3430575583588128105e4), r, 6.7265770927008700853e4), r,
                                4.5921953931549871457e4),
                            r, 1.3731693765509461125e4),
                        r, 1.9715909503065514427e3),
                    r, 1.3314166789178437745e2),
                r, 3.3871328727963666080e0);
    below = fma(fma(fma(fma(fma(fma(fma(5.2264952788528545610e3, r, 2.8729085735721942674e4), r, 3.9307895800092710610e4), r,
                                2.1213794301586595867e4),
                            r, 5.3941960214247511077e3),
                        r, 6.8718700749205790830e2),
                    r, 4.2313330701600911252e1),
                r, 1.0);
    return q * above / below;
  }
  r = sqrt(-exact_log(q < 0 ? p : 1.0 - p));
  if (r <= 5.0) {
    r -= 1.6;
    above = fma(fma(fma(fma(fma(fma(fma(7.74545014278341407640e-4, r, 2.27238449892691845833e-2), r, 2.41780725177450611770e-1), r,
                                1.27045825245236838258e0),
                            r, 3.64784832476320460504e0),
                        r, 5.76949722146069140550e0),
                    r, 4.63033784615654529590e0),
                r, 1.42343711074968357734e0);
    below = fma(fma(fma(fma(fma(fma(fma(1.05075007164441684324e-9, r, 5.47593808499534494600e-4), r, 1.51986665636164571966e-2), r,
                                1.48103976427480074590e-1),
                            r, 6.89767334985100004550e-1),
                        r, 1.67638483018380384940e0),
                    r, 2.05319162663775882187e0),
                r, 1.0);
  } else {
    r -= 5.0;
    above = fma(fma(fma(fma(fma(fma(fma(2.01033439929228813265e-7, r, 2.71155556874348757815e-5), r, 1.24266094738807843860e-3), r,
                                2.65321895265761230930e-2),
                            r, 2.96560571828504891230e-1),
                        r, 1.78482653991729133580e0),
                    r, 5.46378491116411436990e0),
                r, 6.65790464350110377720e0);
    below = fma(fma(fma(fma(fma(fma(fma(2.04426310338993978564e-15, r, 1.42151175831644588870e-7), r, 1.84631831751005468180e-5), r,
                                7.86869131145613259100e-4),
                            r, 1.48753612908506148525e-2),
                        r, 1.36929880922735805310e-1),
                    r, 5.99832206555887937690e-1),
                r, 1.0);
  }
  const double value = above / below;
  return q < 0 ? -value : value;
}

/// A word of Philox as a standard normal number, or as a uniform number in (0, 1).
EVOKE_BOTH float normal_from(uint32_t word) { return static_cast<float>(normal_quantile((word + 0.5) * 0x1p-32)); }
EVOKE_BOTH float uniform_from(uint32_t word) { return static_cast<float>((word >> 9) + 0.5) * 0x1p-23f; }

}  // namespace evoke
