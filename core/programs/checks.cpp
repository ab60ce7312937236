#include "core/programs/checks.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "core/error.h"
#include "core/numbers/tensor.h"

namespace evoke {

using c10::IValue;

namespace {

const Tensor* tensor_at(const std::vector<IValue>& given, size_t i) {
  return i < given.size() && given[i].isTensor() && given[i].toTensor().defined() ? &given[i].toTensor() : nullptr;
}

// Weights and statistics of a norm: a number a channel.
void check_vectors(const std::vector<IValue>& given) {
  const Tensor* x = tensor_at(given, 0);
  require(x != nullptr && x->dim() >= 2, Failure::input, "found an input without channels, expected [N,C,…]");
  for (size_t i = 1; i <= 4; ++i)
    if (const Tensor* vector = tensor_at(given, i))
      require(vector->dim() == 1 && vector->size(0) == x->size(1), Failure::input, "found weights ", shape_text(vector->sizes()), " for ",
              x->size(1), " channels");
}

void check_batch_norm(const std::vector<IValue>& given) {
  check_vectors(given);
  require(tensor_at(given, 3) != nullptr && tensor_at(given, 4) != nullptr, Failure::input,
          "found a batch norm without statistics of its own");
}
void check_instance_norm(const std::vector<IValue>& given) {
  check_vectors(given);
  require((tensor_at(given, 3) != nullptr && tensor_at(given, 4) != nullptr) || (given.at(5).isBool() && given[5].toBool()), Failure::input,
          "found an instance norm without statistics");
}

void check_group_norm(const std::vector<IValue>& given) {
  const Tensor* x = tensor_at(given, 0);
  for (size_t i = 3; i <= 6; ++i) require(given.at(i).isInt(), Failure::input, "found sizes that are no numbers");
  require(x != nullptr && x->dim() >= 2, Failure::input, "found an input without channels, expected [N,C,…]");
  const int64_t pixels = x->size(0) * x->size(1) == 0 ? 0 : x->numel() / (x->size(0) * x->size(1));
  require(given[3].toInt() == x->size(0) && given[4].toInt() == x->size(1) && (given[5].toInt() == pixels || x->numel() == 0),
          Failure::input, "found an input ", shape_text(x->sizes()), " where the file says [", given[3].toInt(), ",", given[4].toInt(), ",",
          given[5].toInt(), "]");
}

// A length for each vector of the weights.
void check_weight_norm(const std::vector<IValue>& given) {
  const Tensor *v = tensor_at(given, 0), *g = tensor_at(given, 1);
  const int64_t dim = given.size() > 2 && given[2].isInt() ? given[2].toInt() : 0;
  bool fits = v != nullptr && g != nullptr && dim < v->dim() && v->scalar_type() == g->scalar_type();
  if (fits && dim >= 0) {
    fits = g->dim() == v->dim() && v->numel() > 0;
    for (int64_t d = 0; fits && d < v->dim(); ++d) fits = g->size(d) == (d == dim ? v->size(d) : 1);
  }
  require(fits, Failure::input, "found a weight norm whose directions and lengths do not fit");
}

void check_attention(const std::vector<IValue>& given) {
  const Tensor *q = tensor_at(given, 0), *k = tensor_at(given, 1), *v = tensor_at(given, 2), *mask = tensor_at(given, 5);
  bool fits = q != nullptr && k != nullptr && v != nullptr && q->dim() == 4 && k->dim() == 4 && v->dim() == 4;
  for (int d = 0; fits && d < 4; ++d)
    fits = (d == 2 || (q->size(d) == k->size(d) && q->size(d) == v->size(d))) && q->size(d) > 0 && k->size(d) > 0;
  fits = fits && k->size(2) == v->size(2) && q->scalar_type() == k->scalar_type() && q->scalar_type() == v->scalar_type();
  if (fits && mask != nullptr) {
    const std::vector<int64_t> whole{q->size(0), q->size(1), q->size(2), k->size(2)};
    fits = mask->dim() == 4 || mask->dim() == 2;
    for (int64_t d = 0; fits && d < mask->dim(); ++d)
      fits = mask->size(mask->dim() - 1 - d) == 1 || mask->size(mask->dim() - 1 - d) == whole[static_cast<size_t>(3 - d)];
  }
  require(fits, Failure::input, "found queries, keys, values or a mask whose shapes do not fit");
}

// Dimensions that are there, each once.
void check_transform(const std::vector<IValue>& given) {
  const Tensor* x = tensor_at(given, 0);
  require(x != nullptr && given.at(1).isIntList(), Failure::input, "found no dimensions to transform");
  std::set<int64_t> seen;
  for (const int64_t dim : given[1].toIntVector())
    require(dim >= 0 && dim < x->dim() && seen.insert(dim).second, Failure::input, "found dimension ", dim, " of an input ",
            shape_text(x->sizes()));
  require(!seen.empty() && x->numel() > 0 &&
              (given.size() < 4 || !given[3].isInt() || (given[3].toInt() > 0 && given[3].toInt() <= most_numbers)),
          Failure::input, "found nothing to transform");
}

}  // namespace

// Windows, paddings and enlargements count in pixels; their products must not wrap around.
void check_window(const std::vector<IValue>& given) {
  const auto fits = [](int64_t number) { return std::abs(number) <= (int64_t{1} << 24); };
  const auto scales = [](double scale) { return !(scale > 0) || (scale >= 1e-6 && scale <= 1e6); };
  for (const IValue& value : given) {
    bool ok = true;
    if (value.isInt()) {
      ok = fits(std::max(value.toInt(), -std::numeric_limits<int64_t>::max()));
    } else if (value.isIntList()) {
      for (const int64_t number : value.toIntVector()) ok = ok && fits(std::max(number, -std::numeric_limits<int64_t>::max()));
    } else if (value.isDoubleList()) {
      for (const double scale : value.toDoubleVector()) ok = ok && scales(scale);
    } else if (value.isDouble()) {
      ok = scales(value.toDouble());
    }
    require(ok, Failure::input, "found a size or a scale that no network has");
  }
}

namespace {

// Sizes and scales that agree: where a scale is given, pixels are looked up by it.
void check_upsample(const std::vector<IValue>& given) {
  check_window(given);
  const Tensor* x = tensor_at(given, 0);
  if (x == nullptr || given.size() < 2 || !given[1].isIntList()) return;
  const std::vector<int64_t> sizes = given[1].toIntVector();
  for (size_t d = 0; d < sizes.size() && given.size() >= 2 + sizes.size(); ++d) {
    const IValue& scale = given[given.size() - sizes.size() + d];
    const auto dim = static_cast<int64_t>(2 + d);
    if (!scale.isDouble() || !(scale.toDouble() > 0) || x->dim() <= dim) continue;
    require(std::abs(std::floor(static_cast<double>(x->size(dim)) * scale.toDouble()) - static_cast<double>(sizes[d])) <= 1, Failure::input,
            "found a size of ", sizes[d], " for ", x->size(dim), " pixels at a scale of ", scale.toDouble());
  }
}

// Of whole numbers, a step of less than one is none, and divided by.
void check_arange(const std::vector<IValue>& given) {
  if (given.size() < 4 || !given[2].isDouble() || !given[3].isInt() || at::isFloatingType(static_cast<at::ScalarType>(given[3].toInt())))
    return;
  require(std::abs(given[2].toDouble()) >= 1, Failure::input, "found whole numbers with a step of ", given[2].toDouble());
}

// The smallest whole number has no opposite: a processor stops there.
void check_division(const std::vector<IValue>& given) {
  const auto whole_type = [](const IValue& v) {
    return v.isInt() || (v.isTensor() && v.toTensor().defined() && !at::isFloatingType(v.toTensor().scalar_type()));
  };
  if (given.size() < 2 || !whole_type(given[0]) || !whole_type(given[1])) return;
  const auto holds = [](const IValue& v, int64_t number) {
    if (v.isInt()) return v.toInt() == number;
    const c10::NoGradGuard no_gradient;
    const Tensor& t = v.toTensor();
    return !t.is_complex() && t.numel() > 0 && t.to(at::kLong).eq(number).any().item<bool>();
  };
  const bool smallest = holds(given[0], std::numeric_limits<int64_t>::min()) || holds(given[0], std::numeric_limits<int32_t>::min());
  require(!smallest || !holds(given[1], -1), Failure::input, "found the smallest number divided by -1");
}

// A list of tensors takes memory for each.
void check_pieces(bool ok) { require(ok, Failure::input, "found a value cut into more pieces than any network has"); }
constexpr int64_t most_pieces = 1 << 16;

void check_unbind(const std::vector<IValue>& given) {
  const Tensor* x = tensor_at(given, 0);
  if (x == nullptr || given.size() < 2 || !given[1].isInt()) return;
  const int64_t dim = given[1].toInt() + (given[1].toInt() < 0 ? x->dim() : 0);
  check_pieces(dim < 0 || dim >= x->dim() || x->size(dim) <= most_pieces);
}
void check_split(const std::vector<IValue>& given) {
  const Tensor* x = tensor_at(given, 0);
  if (x == nullptr || given.size() < 3 || !given[1].isInt() || !given[2].isInt()) return;
  const int64_t dim = given[2].toInt() + (given[2].toInt() < 0 ? x->dim() : 0), each = given[1].toInt();
  check_pieces(dim < 0 || dim >= x->dim() || each <= 0 || x->size(dim) / each <= most_pieces);
}
void check_chunk(const std::vector<IValue>& given) {
  check_pieces(given.size() < 2 || !given[1].isInt() || given[1].toInt() <= most_pieces);
}

}  // namespace

Check check_for(const std::string& name) {
  static const std::map<std::string, Check> table{
      {"batch_norm", check_batch_norm},
      {"native_batch_norm", check_batch_norm},
      {"_native_batch_norm_legit", check_batch_norm},
      {"_native_batch_norm_legit_no_training", check_batch_norm},
      {"instance_norm", check_instance_norm},
      {"native_group_norm", check_group_norm},
      {"_scaled_dot_product_flash_attention_for_cpu", check_attention},
      {"_weight_norm", check_weight_norm},
      {"_fft_r2c", check_transform},
      {"_fft_c2r", check_transform},
      {"_fft_c2c", check_transform},
      {"arange", check_arange},
      {"floor_divide", check_division},
      {"div", check_division},
      {"divide", check_division},
      {"remainder", check_division},
      {"fmod", check_division},
      {"matrix_power", check_window},
      {"linalg_matrix_power", check_window},
      {"combinations", check_chunk},
      {"unbind", check_unbind},
      {"unbind_copy", check_unbind},
      {"split", check_split},
      {"split_copy", check_split},
      {"unsafe_split", check_split},
      {"chunk", check_chunk},
      {"unsafe_chunk", check_chunk},
      {"tensor_split", check_chunk},
      {"hsplit", check_chunk},
      {"vsplit", check_chunk},
      {"dsplit", check_chunk},
  };
  const auto found = table.find(name.ends_with('_') ? name.substr(0, name.size() - 1) : name);
  if (found != table.end()) return found->second;
  if (name.find("upsample") != std::string::npos) return check_upsample;
  for (const char* part : {"conv", "pool", "pad", "im2col", "col2im", "shuffle"})
    if (name.find(part) != std::string::npos && !name.starts_with("constant_pad") && name != "pad" && name != "pad_sequence")
      return check_window;
  return nullptr;
}

}  // namespace evoke
