#include "training/loop.h"

#include <ATen/ATen.h>
#include <ATen/ops/_fused_adamw.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <numbers>

#include "core/error.h"
#include "core/log.h"
#include "core/storage/files.h"

namespace evoke {

namespace {

// One group's weights with Adam's memory of them, in the order of their names.
struct Group {
  std::vector<std::string> names;
  std::vector<Tensor> weights, means, squares, averages, best;
  std::vector<Tensor> counts;  // Adam's own step counters, one a tensor, as its fused kernel wants them
};

Group group_of(const Tensors& weights, bool averaged) {
  Group out;
  for (const auto& [name, tensor] : weights) {
    out.names.push_back(name);
    out.weights.push_back(tensor);
    out.means.push_back(at::zeros_like(tensor));
    out.squares.push_back(at::zeros_like(tensor));
    out.counts.push_back(at::zeros({}, tensor.options().requires_grad(false).dtype(at::kFloat)));
    if (averaged) out.averages.push_back(tensor.detach().clone());
    out.best.push_back(tensor.detach().clone());
  }
  return out;
}

class Loop {
 public:
  Loop(Task& task, const LoopOptions& options, const LoopContext& context)
      : task_(task), options_(options), context_(context), batches_(std::max<int64_t>(1, task.rows / options.batch)) {
    require(task.rows > 0, Failure::input, "training: found no training rows; the dataset's split leaves none");
    for (const Tensors& group : task.groups) groups_.push_back(group_of(group, options.average > 0));
    device_ = groups_.at(0).weights.at(0).device();
    rounded_ = in_bfloat16(options.precision, device_);
    if (!context.checkpoint.empty() && std::filesystem::exists(context.checkpoint)) load();
    if (context.recorded) context.recorded(epoch_);
  }

  LoopResult run() {
    Progress progress(context_.title, options_.epochs * batches_, "step");
    const auto stopped = [&] { return context_.stop && context_.stop(); };
    saved_ = seconds();
    for (; epoch_ < options_.epochs && !early(); ++epoch_) {
      const auto seed = static_cast<uint64_t>(options_.seed);
      const Tensor order = task_.order
                               ? task_.order(seed, epoch_)
                               : Stream::range(seed, 0, 1, at::kCPU, epoch_).uniform({task_.rows}).squeeze(0).argsort(/*stable=*/true);
      for (; batch_ < batches_; ++batch_) {
        const int64_t first = batch_ * options_.batch;
        step(order.slice(0, first, std::min(first + options_.batch, task_.rows)));
        if (batch_ % 20 == 0) progress.at(epoch_ * batches_ + batch_, note());
        if (stopped()) {
          ++batch_;
          save();
          result_.interrupted = true;
          return result_;
        }
        if (seconds() - saved_ > context_.checkpoint_seconds) {
          ++batch_;
          save();
          --batch_;
        }
      }
      close_epoch();
      batch_ = 0;
      ++epoch_;
      save();
      --epoch_;
    }
    progress.at(options_.epochs * batches_, note());
    const c10::NoGradGuard no_gradient;
    for (Group& group : groups_)
      for (size_t i = 0; i < group.weights.size(); ++i) group.weights[i].copy_(group.best[i]);
    return result_;
  }

 private:
  bool early() const { return options_.patience > 0 && epoch_ >= result_.best_epoch + options_.patience && result_.best_epoch > 0; }

  double rate() const {
    const double total = static_cast<double>(options_.epochs * batches_), at = static_cast<double>(epoch_ * batches_ + batch_) + 1;
    const double warm = options_.warm_up * total;
    if (at < warm) return options_.learning_rate * at / warm;
    const double done = (at - warm) / std::max(1.0, total - warm);
    return options_.learning_rate * (options_.final_rate + (1 - options_.final_rate) * 0.5 * (1 + std::cos(std::numbers::pi * done)));
  }

  void step(const Tensor& rows) {
    const int64_t number = epoch_ * batches_ + batch_;
    Stream noise = Stream::range(static_cast<uint64_t>(options_.seed) + 1, 0, rows.size(0), device_, number);
    for (size_t g = 0; g < groups_.size(); ++g) {
      Group& group = groups_[g];
      Tensors losses;
      std::vector<Tensor> gradients;
      {
        const c10::AutoGradMode with_gradient(true);
        {
          const Bfloat16Scope rounded(rounded_, device_);
          losses = task_.losses(g, rows, noise);
        }
        gradients = torch::autograd::grad({losses.at("loss")}, group.weights, {}, {}, false, /*allow_unused=*/true);
      }
      const c10::NoGradGuard no_gradient;
      for (size_t i = 0; i < gradients.size(); ++i) {
        if (!gradients[i].defined()) gradients[i] = at::zeros_like(group.weights[i]);
        // The fused update walks memory: a gradient must lie as its weight does.
        if (gradients[i].strides() != group.weights[i].strides()) gradients[i] = at::empty_like(group.weights[i]).copy_(gradients[i]);
      }
      if (options_.gradient_clip > 0) {
        std::vector<Tensor> norms;
        for (const Tensor& gradient : gradients) norms.push_back(at::linalg_vector_norm(gradient));
        const Tensor factor = (options_.gradient_clip / (at::linalg_vector_norm(at::stack(norms)) + 1e-6)).clamp_max(1.0);
        for (Tensor& gradient : gradients) gradient.mul_(factor);
      }
      for (Tensor& count : group.counts) count.add_(1);
      std::vector<Tensor> weights;
      for (const Tensor& weight : group.weights) weights.push_back(weight.detach());
      at::_fused_adamw_(weights, gradients, group.means, group.squares, {}, group.counts,
                        rate() * (task_.rates.empty() ? 1.0 : task_.rates.at(g)), options_.beta1, options_.beta2, options_.weight_decay,
                        1e-8, /*amsgrad=*/false, /*maximize=*/false);
      for (size_t i = 0; i < group.averages.size(); ++i) group.averages[i].lerp_(weights[i], 1.0 - options_.average);
      for (const auto& [name, value] : losses) {
        Tensor& sum = sums_[groups_.size() > 1 ? name + std::to_string(g) : name];
        const Tensor now = value.detach().to(at::kDouble);
        sum = sum.defined() ? sum + now : now;
      }
    }
  }

  std::string note() {
    const auto loss = sums_.find(groups_.size() > 1 ? "loss0" : "loss");
    if (loss == sums_.end()) return {};
    const double mean = loss->second.item<double>() / static_cast<double>(batch_ + (batch_ < batches_));
    require(std::isfinite(mean), Failure::runtime, "training: the loss stopped being finite before step ", epoch_ * batches_ + batch_,
            "; take a smaller learning_rate");
    char out[64];
    std::snprintf(out, sizeof out, "loss %.5g%s", mean, validation_note_.c_str());
    return out;
  }

  void close_epoch() {
    std::map<std::string, double> line{{"epoch", static_cast<double>(epoch_ + 1)}, {"rate", rate()}};
    for (const auto& [name, sum] : sums_) line[name] = sum.item<double>() / static_cast<double>(batches_);
    require(std::isfinite(line.contains("loss") ? line["loss"] : line["loss0"]), Failure::runtime,
            "training: the loss stopped being finite in epoch ", epoch_ + 1, "; take a smaller learning_rate");
    sums_.clear();

    const c10::NoGradGuard no_gradient;
    const auto swap_averages = [&] {
      for (Group& group : groups_)
        for (size_t i = 0; i < group.averages.size(); ++i) {
          const Tensor kept = group.weights[i].detach().clone();
          group.weights[i].copy_(group.averages[i]);
          group.averages[i].copy_(kept);
        }
    };
    swap_averages();
    const auto figures = task_.validate();
    if (task_.keep_last || result_.best_epoch == 0 || figures.at("validation") < result_.validation.at("validation")) {
      result_.best_epoch = epoch_ + 1;
      result_.validation = figures;
      for (Group& group : groups_)
        for (size_t i = 0; i < group.weights.size(); ++i) group.best[i].copy_(group.weights[i]);
    }
    swap_averages();
    result_.epochs = epoch_ + 1;
    char out[48];
    std::snprintf(out, sizeof out, "  validation %.5g", figures.at("validation"));
    validation_note_ = out;
    for (const auto& [name, value] : figures) line[name] = value;
    if (context_.record) context_.record(line);
  }

  // Every tensor that the rest of the training depends on, by name.
  template <class Visit>
  void visit(Visit&& visit) {
    for (size_t g = 0; g < groups_.size(); ++g) {
      Group& group = groups_[g];
      const auto all = [&](const char* what, std::vector<Tensor>& tensors) {
        for (size_t i = 0; i < tensors.size(); ++i) visit(text(g, "/", what, "/", group.names[i]), tensors[i]);
      };
      all("weight", group.weights);
      all("mean", group.means);
      all("square", group.squares);
      all("count", group.counts);
      all("average", group.averages);
      all("best", group.best);
    }
  }

  void save() {
    saved_ = seconds();
    if (context_.checkpoint.empty()) return;
    Checkpoint out;
    visit([&](const std::string& name, Tensor& tensor) { out.tensors[name] = tensor.detach().cpu(); });
    for (const auto& [name, sum] : sums_) out.tensors["sum/" + name] = sum.cpu();
    out.facts = {{"what", "training"},
                 {"epoch", std::to_string(epoch_)},
                 {"batch", std::to_string(batch_)},
                 {"best_epoch", std::to_string(result_.best_epoch)},
                 {"epochs_done", std::to_string(result_.epochs)}};
    for (const auto& [name, value] : result_.validation) {
      char exact[40];
      std::snprintf(exact, sizeof exact, "%a", value);
      out.facts["best/" + name] = exact;
    }
    save_checkpoint(context_.checkpoint, out);
  }

  void load() {
    const Checkpoint from = load_checkpoint(context_.checkpoint);
    const auto fact = [&](const std::string& name) {
      const auto found = from.facts.find(name);
      require(found != from.facts.end(), Failure::input, "training: checkpoint ", context_.checkpoint, " lacks '", name,
              "'; it belongs to something else: remove it to begin anew");
      return std::stoll(found->second);
    };
    epoch_ = fact("epoch");
    batch_ = fact("batch");
    result_.best_epoch = fact("best_epoch");
    result_.epochs = fact("epochs_done");
    for (const auto& [name, value] : from.facts)
      if (name.starts_with("best/")) result_.validation[name.substr(5)] = std::strtod(value.c_str(), nullptr);
    const c10::NoGradGuard no_gradient;
    visit([&](const std::string& name, Tensor& tensor) {
      const auto found = from.tensors.find(name);
      require(found != from.tensors.end() && found->second.sizes() == tensor.sizes(), Failure::input, "training: checkpoint ",
              context_.checkpoint, " does not fit this training at ", name, "; it belongs to another: remove it to begin anew");
      tensor.copy_(found->second);
    });
    for (const auto& [name, tensor] : from.tensors)
      if (name.starts_with("sum/")) sums_[name.substr(4)] = tensor.to(device_);
    say(text(context_.title, ": goes on from epoch ", epoch_ + 1, ", batch ", batch_));
  }

  Task& task_;
  const LoopOptions& options_;
  const LoopContext& context_;
  int64_t batches_, epoch_ = 0, batch_ = 0;
  std::vector<Group> groups_;
  at::Device device_ = at::kCPU;
  bool rounded_ = false;
  Tensors sums_;  // of the losses of this epoch
  LoopResult result_;
  std::string validation_note_;
  double saved_ = 0;
};

}  // namespace

LoopResult learn(Task& task, const LoopOptions& options, const LoopContext& context) { return Loop(task, options, context).run(); }

}  // namespace evoke
