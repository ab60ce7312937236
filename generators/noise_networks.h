// Networks that look at data below noise and are told how much noise it is: the insides of denoisers and critics.
#pragma once
#include "core/networks/network.h"

namespace evoke {

/// What they are given: u/√(1+σ²), and ln(σ)/4 as one more column or channel (Karras et al. 2022, Table 1, σ_data = 1). u [N,D] or
/// [N,C,H,W] in the data's own deviations, sigma [N] -> [N,D+1] or [N,C+1,H,W].
Tensor below_noise(const Tensor& u, const Tensor& sigma);

/// A residual multilayer perceptron, [N,inputs] -> [N,outputs], each block given an embedding of σ. told = false: its noise is always the
/// same, and it is given u/√(1+σ²) alone. The last layer starts at 0.
Network noise_perceptron(int64_t inputs, int64_t outputs, int64_t hidden, int64_t blocks, bool told, uint64_t seed);

/// Residual convolutions in several sizes, each block scaled and shifted by an embedding of σ (Dhariwal & Nichol 2021, without attention):
/// `width` channels at the full size, twice as many at each smaller one, blocks at each size.
struct NoiseConvolutions {
  int64_t channels = 16;  // of the data
  int64_t width = 80, sizes = 2, blocks = 2;
  bool told = true;  // as above
};
/// A U-Net, [N,C,H,W] -> [N,C,H,W] of any height and width: blocks on the way down and on the way up, where what was seen on the way down
/// is added. The last layer starts at 0.
Network noise_unet(const NoiseConvolutions&, uint64_t seed);
/// Its way down alone, then the mean over all places: [N,C,H,W] -> [N,outputs]. The last layer starts at 0.
Network noise_funnel(const NoiseConvolutions&, int64_t outputs, uint64_t seed);

}  // namespace evoke
