#include "core/numbers/relu.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

namespace evoke {

namespace {

thread_local bool redirected = false;

struct Redirected : torch::autograd::Function<Redirected> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x, double low, double high) {
    context->save_for_backward({x});
    context->saved_data["low"] = low;
    context->saved_data["high"] = high;
    return x.clamp(low, high);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    const Tensor x = context->get_saved_variables()[0], &g = gradients[0];
    const Tensor below = x <= context->saved_data["low"].toDouble(), above = x >= context->saved_data["high"].toDouble();
    const Tensor plain = g.masked_fill(below | above, 0), along = g.masked_fill((below & (g < 0)) | (above & (g > 0)), 0);
    const Tensor passes = (plain != 0).flatten(1).any(1);
    return {at::where(broadcast_rows(passes, x.dim()), plain, along), Tensor(), Tensor()};
  }
};

}  // namespace

Tensor rectified(const Tensor& x, double low, double high) {
  if (redirected && c10::GradMode::is_enabled() && x.requires_grad() && x.dim() > 1) return Redirected::apply(x, low, high);
  return high == std::numeric_limits<double>::infinity() && low == 0 ? at::relu(x) : at::hardtanh(x, low, high);
}

RedirectedReluScope::RedirectedReluScope(bool on) : before_(redirected) { redirected = on; }
RedirectedReluScope::~RedirectedReluScope() { redirected = before_; }
bool relus_are_redirected() { return redirected; }

}  // namespace evoke
