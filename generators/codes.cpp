#include "generators/codes.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "core/numbers/linear_algebra.h"
#include "core/storage/safetensors.h"

namespace evoke {

namespace {

constexpr int64_t most_full = 4096;  // numbers of a code whose covariance is kept whole: 64 MiB

int64_t numel(const std::vector<int64_t>& latent) {
  int64_t out = 1;
  for (const int64_t n : latent) out *= n;
  return out;
}

std::string form_of(const std::vector<int64_t>& latent, const std::string& form) {
  require(std::find(code_forms.begin(), code_forms.end(), form) != code_forms.end(), Failure::usage, "code statistics: found form '", form,
          "', expected one of ", list_of(code_forms));
  require(!latent.empty() && numel(latent) > 0, Failure::input, "code statistics: found codes ", shape_text(latent),
          ", expected at least one number");
  if (form == "auto") return latent.size() == 3 ? "channel" : numel(latent) <= most_full ? "full" : "diagonal";
  require(form != "channel" || latent.size() > 1, Failure::input, "code statistics: found form 'channel' for codes ", shape_text(latent),
          ", expected codes [C,H,W]; take full or diagonal");
  require(form != "full" || numel(latent) <= most_full, Failure::input, "code statistics: found form 'full' for codes of ", numel(latent),
          " numbers, expected at most ", most_full, "; take channel or diagonal");
  return form;
}

// [C,1,…], as many dimensions as the latent has.
std::vector<int64_t> channel_shape(const std::vector<int64_t>& latent) {
  std::vector<int64_t> out(latent.size(), 1);
  out[0] = latent[0];
  return out;
}

}  // namespace

Tensor CodeStatistics::deviation() const {
  const bool matrix = covariance.sizes() == at::IntArrayRef({mean.numel(), mean.numel()});
  return (matrix ? covariance.diagonal().reshape(mean.sizes()) : covariance).sqrt();
}

void CodeStatistics::require_fit(const std::vector<int64_t>& latent, std::string_view where) const {
  const at::IntArrayRef shape = latent;
  const std::vector<int64_t> channels = channel_shape(latent);
  const bool all = mean.defined() && covariance.defined() && low.defined() && high.defined() && low.sizes() == mean.sizes() &&
                   high.sizes() == mean.sizes();
  const int64_t size = numel(latent);
  const bool whole = all && mean.sizes() == shape;
  const bool full = whole && covariance.sizes() == at::IntArrayRef({size, size}), diagonal = whole && covariance.sizes() == shape;
  const bool channel = all && mean.sizes() == at::IntArrayRef(channels) && covariance.sizes() == at::IntArrayRef({latent[0], latent[0]});
  require(full || diagonal || channel, Failure::input, where, ": found statistics of codes ",
          mean.defined() ? shape_text(mean.sizes()) : "without a mean", " with a covariance ",
          covariance.defined() ? shape_text(covariance.sizes()) : "that is missing", ", expected those of codes ", shape_text(latent),
          "; measure them again with these codes (evoke train, kind = \"codes\")");
}

struct CodeSums::Sums {
  std::vector<int64_t> latent;
  std::string form;
  int64_t count = 0;
  Moments moments;      // full, channel
  Tensor mean, square;  // diagonal: mean and Σ(z - mean)²
  Tensor low, high;
};

CodeSums::CodeSums(const std::vector<int64_t>& latent, const std::string& form)
    : sums_(std::make_unique<Sums>(Sums{latent, form_of(latent, form), 0, {}, {}, {}, {}, {}})) {}
CodeSums::~CodeSums() = default;

void CodeSums::add(const Tensor& codes) {
  Sums& sums = *sums_;
  std::vector<int64_t> shape = sums.latent;
  shape.insert(shape.begin(), -1);
  require_shape(codes, shape, "code statistics: codes");
  if (codes.size(0) == 0) return;
  const Tensor exact = codes.detach().to(at::kCPU, at::kDouble);

  // Rows of what is summed: codes, or by channel every place of every code.
  const bool channel = sums.form == "channel";
  const Tensor rows = channel ? exact.movedim(1, -1).reshape({-1, sums.latent[0]}) : exact.flatten(1);
  if (sums.form == "diagonal") {
    // Chan, Golub & LeVeque 1983, Eq. 1.5, number by number.
    const auto before = static_cast<double>(sums.count), now = static_cast<double>(rows.size(0)), all = before + now;
    const Tensor mean = rows.mean(0), square = (rows - mean).square().sum(0);
    const Tensor shift = sums.count > 0 ? mean - sums.mean : at::zeros_like(mean);
    sums.square = sums.count > 0 ? sums.square + square + shift.square() * (before * now / all) : square;
    sums.mean = sums.count > 0 ? sums.mean + shift * (now / all) : mean;
  } else {
    sums.moments.add(rows);
  }
  const Tensor low = rows.amin(0), high = rows.amax(0);
  sums.low = sums.low.defined() ? at::minimum(sums.low, low) : low;
  sums.high = sums.high.defined() ? at::maximum(sums.high, high) : high;
  sums.count += codes.size(0);
}

CodeStatistics CodeSums::statistics() const {
  const Sums& sums = *sums_;
  require(sums.count >= 2, Failure::input, "code statistics: found ", sums.count, " codes, expected at least 2");
  const std::vector<int64_t> shape = sums.form == "channel" ? channel_shape(sums.latent) : sums.latent;
  const auto single = [&](const Tensor& t) { return t.to(at::kFloat).reshape(shape).contiguous(); };
  if (sums.form == "diagonal")
    return {single(sums.mean), single(sums.square / static_cast<double>(sums.count - 1)), single(sums.low), single(sums.high)};
  return {single(sums.moments.mean()), sums.moments.covariance().to(at::kFloat), single(sums.low), single(sums.high)};
}

CodeStatistics code_statistics(const Tensor& codes, const std::string& form) {
  require(codes.dim() >= 2, Failure::input, "code statistics: found codes ", shape_text(codes.sizes()), ", expected [N,D] or [N,C,H,W]");
  CodeSums sums(codes.sizes().slice(1).vec(), form);
  sums.add(codes);
  return sums.statistics();
}

CodeStatistics standard_statistics(const std::vector<int64_t>& latent) {
  const std::string form = form_of(latent, "auto");
  const std::vector<int64_t> shape = form == "channel" ? channel_shape(latent) : latent;
  const Tensor covariance = form == "diagonal" ? at::ones(shape) : at::eye(form == "channel" ? latent[0] : numel(latent));
  return {at::zeros(shape), covariance, at::full(shape, -3.0), at::full(shape, 3.0)};
}

Tensors pack(const CodeStatistics& codes) {
  return {{"mean", codes.mean}, {"covariance", codes.covariance}, {"low", codes.low}, {"high", codes.high}};
}

CodeStatistics take_statistics(Tensors& from, const std::string& prefix, const std::vector<int64_t>& latent, const std::string& file) {
  const auto take = [&](const char* name) {
    const auto found = from.find(prefix + name);
    require(found != from.end(), Failure::input, file, ": found no tensor '", prefix, name, "', expected one; measure the codes again");
    const Tensor out = found->second.to(at::kFloat);
    from.erase(found);
    return out;
  };
  CodeStatistics out;
  out.mean = take("mean");
  out.covariance = take("covariance");
  out.low = take("low");
  out.high = take("high");
  out.require_fit(latent.empty() ? out.mean.sizes().vec() : latent, file);
  return out;
}

void save_codes(const std::string& file, const CodeStatistics& codes, const std::vector<int64_t>& latent) {
  codes.require_fit(latent, file);
  save_weights(file, "codes", "", pack(codes));
}

CodeStatistics load_codes(const std::string& file, const std::vector<int64_t>& latent) {
  SafeTensors loaded = load_weights(file, {"codes"});
  return take_statistics(loaded.tensors, "", latent, file);
}

}  // namespace evoke
