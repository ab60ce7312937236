// A step as one CUDA graph: the same kernels, launched together instead of one by one.
#pragma once
#include "core/nouns/nouns.h"

namespace evoke {

/// The same sampler, whose steps on CUDA are recorded into a CUDA graph and replayed from then on: the host launches one graph in place of
/// some hundreds of kernels, which is what a step of a small network waits for. The numbers are the same: what differs from step to step,
/// the state and the number of the step, is written into the memory that the graph reads.
///
/// The first steps run as they are, so that libraries choose their kernels and constants reach the device. A step of another target, other
/// chains or tensors of another shape begins anew. On the CPU it is the sampler itself. Where the sampler or the target says that it cannot
/// be captured (their field `capturable`), its steps run one by one, which is said aloud once.
/// Throws Failure::runtime when a step says that it can be captured and cannot. Needs memory for one more state and for all that a step
/// allocates.
Sampler captured(Sampler);

}  // namespace evoke
