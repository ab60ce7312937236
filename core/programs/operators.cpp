#include "core/programs/operators.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <sstream>

#include "core/error.h"
#include "core/nouns/nouns.h"

namespace evoke {

using c10::IValue;

// ---- What may run. LibTorch has some two thousand operators, and many trust their callers with shapes, strides or raw storage (backward
// formulas, kernels of one backend, sparse and quantized tensors): what runs here are those that networks are made of and that check what
// they are given. An operator's in-place twin (name_) is meant too.
bool may_run(const std::string& space, const std::string& name) {
  static const std::set<std::string> known = [] {
    const char* elementwise =
        "abs absolute acos acosh add addcdiv addcmul angle arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh atan atan2 "
        "atanh "
        "bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor ceil celu clamp clamp_max clamp_min clip "
        "complex "
        "conj conj_physical copysign cos cosh deg2rad digamma div divide elu eq erf erfc erfinv exp exp2 expm1 fix float_power floor "
        "floor_divide "
        "fmax fmin fmod frac gcd ge gelu greater greater_equal gt hardshrink hardsigmoid hardswish hardtanh heaviside hypot i0 imag "
        "isclose "
        "isfinite isinf isnan isneginf isposinf isreal lcm ldexp le leaky_relu lerp less less_equal lgamma log log10 log1p log2 "
        "log_sigmoid "
        "log_sigmoid_forward logaddexp logaddexp2 logical_and logical_not logical_or logical_xor logit lt masked_fill maximum minimum mish "
        "mul "
        "multiply mvlgamma nan_to_num ne neg negative nextafter not_equal polar polygamma positive pow prelu rad2deg real reciprocal relu "
        "relu6 "
        "remainder resolve_conj resolve_neg round rrelu rsqrt rsub selu sgn sigmoid sign signbit silu sin sinc sinh softplus softshrink "
        "sqrt "
        "square sub subtract tan tanh threshold true_divide trunc where xlogy special_bessel_j0 special_bessel_j1 special_digamma "
        "special_entr "
        "special_erf special_erfc special_erfcx special_erfinv special_exp2 special_expit special_expm1 special_gammaln special_i0 "
        "special_i0e "
        "special_i1 special_i1e special_log1p special_log_ndtr special_log_softmax special_logit special_logsumexp special_ndtr "
        "special_ndtri "
        "special_psi special_round special_sinc special_softmax special_xlog1py special_xlogy special_zeta _conj _prelu_kernel";
    const char* reducing =
        "all allclose amax amin aminmax any argmax argmin argsort bincount bucketize cdist corrcoef cosine_similarity count_nonzero cov "
        "cummax "
        "cummin cumprod cumsum cumulative_trapezoid diff dist equal frobenius_norm gradient histc kthvalue linalg_matrix_norm linalg_norm "
        "linalg_vector_norm log_softmax logcumsumexp logsumexp max mean median min mode msort nanmean nanmedian nanquantile nansum norm "
        "norm_except_dim nuclear_norm pairwise_distance pdist prod quantile renorm searchsorted softmax sort std std_mean sum topk trace "
        "trapezoid trapz unique_consecutive unique_dim var var_mean _cdist_forward _euclidean_dist _is_all_true _is_any_true _log_softmax "
        "_safe_softmax _softmax";
    const char* matrices =
        "addbmm addmm addmv addr adjoint baddbmm bilinear bmm chain_matmul cholesky cholesky_inverse cross det dot einsum ger inner "
        "inverse kron "
        "linalg_cholesky linalg_cholesky_ex linalg_cross linalg_det linalg_diagonal linalg_eigh linalg_eigvalsh linalg_inv linalg_inv_ex "
        "linalg_lstsq linalg_matmul linalg_matrix_exp linalg_matrix_power linalg_multi_dot linalg_pinv linalg_qr linalg_slogdet "
        "linalg_solve "
        "linalg_solve_ex linalg_solve_triangular linalg_svd linalg_svdvals linalg_vander linalg_vecdot linear logdet matmul matrix_exp "
        "matrix_power mm mv outer pinverse slogdet svd tensordot triangular_solve vander vdot";
    const char* networks =
        "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
        "affine_grid_generator alpha_dropout avg_pool1d avg_pool2d avg_pool3d batch_norm bernoulli binary_cross_entropy "
        "binary_cross_entropy_with_logits channel_shuffle col2im constant_pad_nd conv1d conv2d conv3d conv_tbc conv_transpose1d "
        "conv_transpose2d "
        "conv_transpose3d convolution cosine_embedding_loss cross_entropy_loss dropout embedding feature_alpha_dropout feature_dropout glu "
        "grid_sampler grid_sampler_2d grid_sampler_3d group_norm gru gru_cell huber_loss im2col instance_norm kl_div l1_loss layer_norm "
        "lstm "
        "lstm_cell max_pool1d max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d max_pool3d_with_indices max_unpool2d "
        "max_unpool3d mse_loss native_batch_norm native_channel_shuffle native_dropout native_group_norm native_layer_norm nll_loss "
        "nll_loss_nd "
        "one_hot pad pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d "
        "replication_pad3d rms_norm rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell scaled_dot_product_attention smooth_l1_loss "
        "soft_margin_loss "
        "upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d "
        "upsample_trilinear3d "
        "_adaptive_avg_pool2d _adaptive_avg_pool3d _convolution _native_batch_norm_legit _native_batch_norm_legit_no_training "
        "_pad_circular "
        "_scaled_dot_product_attention_math _scaled_dot_product_efficient_attention _scaled_dot_product_flash_attention "
        "_scaled_dot_product_flash_attention_for_cpu _upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_nearest_exact1d "
        "_upsample_nearest_exact2d _upsample_nearest_exact3d _weight_norm";
    const char* spectra =
        "bartlett_window blackman_window fft_fft fft_fft2 fft_fftfreq fft_fftn fft_fftshift fft_hfft fft_hfft2 fft_hfftn fft_ifft "
        "fft_ifft2 "
        "fft_ifftn fft_ifftshift fft_ihfft fft_ihfft2 fft_ihfftn fft_irfft fft_irfft2 fft_irfftn fft_rfft fft_rfft2 fft_rfftfreq fft_rfftn "
        "hamming_window hann_window istft kaiser_window stft _fft_c2c _fft_c2r _fft_r2c";
    const char* shapes =
        "alias alias_copy align_tensors argwhere as_strided as_strided_copy as_strided_scatter atleast_1d atleast_2d atleast_3d block_diag "
        "broadcast_tensors broadcast_to cartesian_prod cat chunk clone column_stack combinations concat concatenate contiguous copy detach "
        "detach_copy diag diag_embed diagflat diagonal diagonal_copy diagonal_scatter dsplit dstack expand expand_as expand_copy fill "
        "fill_diagonal flatten flip fliplr flipud gather hsplit hstack index index_add index_copy index_fill index_put index_reduce "
        "index_select "
        "lift_fresh lift_fresh_copy mH mT masked_scatter masked_select matrix_H meshgrid moveaxis movedim narrow narrow_copy nonzero "
        "nonzero_numpy numpy_T pad_sequence permute permute_copy put ravel repeat repeat_interleave reshape reshape_as roll rot90 "
        "row_stack "
        "scatter scatter_add scatter_reduce select select_copy select_scatter slice slice_copy slice_scatter split split_copy "
        "split_with_sizes "
        "split_with_sizes_copy squeeze squeeze_copy stack sum_to_size swapaxes swapdims t t_copy take take_along_dim tensor_split tile to "
        "transpose transpose_copy tril triu type_as unbind unbind_copy unflatten unfold unfold_copy unsafe_chunk unsafe_split "
        "unsafe_split_with_sizes unsqueeze unsqueeze_copy view view_as view_as_complex view_as_complex_copy view_as_real view_as_real_copy "
        "view_copy vsplit vstack _shape_as_tensor _to_copy _unsafe_view";
    const char* making =
        "arange empty empty_like empty_permuted eye full full_like linspace logspace new_empty new_full new_ones new_zeros normal ones "
        "ones_like "
        "rand rand_like randint randint_like randn randn_like randperm scalar_tensor tril_indices triu_indices uniform zero zeros "
        "zeros_like";
    const char* asking =
        "dim element_size is_complex is_contiguous is_floating_point is_nonzero is_same_size is_signed item numel result_type size "
        "storage_offset "
        "stride sym_numel sym_size sym_storage_offset sym_stride _local_scalar_dense";
    // Python's own, as TorchScript writes them: on numbers, lists and words.
    const char* python =
        "Bool Complex ComplexImplicit Float FloatImplicit Int IntImplicit ScalarImplicit Size __and__ __contains__ __delitem__ "
        "__derive_index "
        "__getitem__ __iand__ __ilshift__ __interpolate __ior__ __irshift__ __is__ __isnot__ __ixor__ __lshift__ __not__ __or__ "
        "__range_length "
        "__round_to_zero_floordiv __rshift__ __upsample __upsample_bilinear __upsample_nearest __xor__ _set_item _unwrap_optional append "
        "as_tensor "
        "bin chr clear count cpu degrees device dict divmod endswith extend fabs factorial find floordiv format gamma get get_device hash "
        "hex "
        "index insert is_cuda is_grad_enabled is_scripting isalnum isalpha isdigit islower isspace isupper items join keys len list lower "
        "lstrip mathremainder modf oct ord percentFormat pop popitem promote_types radians remove replace reverse rfind rstrip setdefault "
        "sorted "
        "splitlines startswith str strip tensor update upper values";
    std::set<std::string> out;
    for (const char* words : {elementwise, reducing, matrices, networks, spectra, shapes, making, asking, python}) {
      std::istringstream each(words);
      for (std::string word; each >> word;) out.insert(word);
    }
    return out;
  }();
  if (space != "aten") return false;
  const bool twin = name.size() > 2 && name.ends_with('_') && !name.ends_with("__");
  return known.contains(twin ? name.substr(0, name.size() - 1) : name);
}

// ---- Arithmetic of sizes.

IValue as_tensor(const IValue& value) {
  if (value.isTensor()) return value;
  Tensor wrapped = value.isInt()    ? at::scalar_tensor(value.toInt(), at::kLong)
                   : value.isBool() ? at::scalar_tensor(value.toBool(), at::kBool)
                                    : at::scalar_tensor(value.toDouble(), at::kDouble);
  wrapped.unsafeGetTensorImpl()->set_wrapped_number(true);
  return wrapped;
}

int64_t integer(const IValue& v) { return v.isBool() ? v.toBool() : v.toInt(); }

namespace {

bool is_integer(const IValue& v) { return v.isInt() || v.isBool(); }
double real(const IValue& v) { return v.isDouble() ? v.toDouble() : static_cast<double>(integer(v)); }
bool truth(const IValue& v) { return v.isBool() ? v.toBool() : real(v) != 0; }

template <class OfIntegers, class OfReals>
IValue either(const std::vector<IValue>& v, OfIntegers of_integers, OfReals of_reals) {
  if (is_integer(v.at(0)) && is_integer(v.at(1))) return IValue(of_integers(integer(v[0]), integer(v[1])));
  return IValue(of_reals(real(v.at(0)), real(v.at(1))));
}
int64_t floor_quotient(int64_t a, int64_t b) {
  require(b != 0 && !(b == -1 && a == std::numeric_limits<int64_t>::min()), Failure::input, "a size is divided by ", b);
  return a / b - ((a % b != 0) && ((a < 0) != (b < 0)));
}
int64_t whole_part(double value) {
  require(std::abs(value) < 0x1p63, Failure::input, "a size becomes ", value);
  return static_cast<int64_t>(value);
}
// Wraps around as two's complement does, without the undefined behaviour of signed overflow.
int64_t wrapped(uint64_t value) { return static_cast<int64_t>(value); }

}  // namespace

Arithmetic arithmetic_named(const std::string& name) {
  using V = const std::vector<IValue>&;
  static const std::map<std::string, Arithmetic> table{
      {"add",
       [](V v) {
         return either(
             v, [](int64_t a, int64_t b) { return wrapped(uint64_t(a) + uint64_t(b)); }, std::plus<double>());
       }},
      {"sub",
       [](V v) {
         return either(
             v, [](int64_t a, int64_t b) { return wrapped(uint64_t(a) - uint64_t(b)); }, std::minus<double>());
       }},
      {"mul",
       [](V v) {
         return either(
             v, [](int64_t a, int64_t b) { return wrapped(uint64_t(a) * uint64_t(b)); }, std::multiplies<double>());
       }},
      {"floordiv", [](V v) { return either(v, floor_quotient, [](double a, double b) { return std::floor(a / b); }); }},
      {"mod",
       [](V v) {
         return either(
             v, [](int64_t a, int64_t b) { return wrapped(uint64_t(a) - uint64_t(floor_quotient(a, b)) * uint64_t(b)); },
             [](double a, double b) { return a - std::floor(a / b) * b; });
       }},
      {"truediv", [](V v) { return IValue(real(v.at(0)) / real(v.at(1))); }},
      {"pow",
       [](V v) {
         return either(
             v, [](int64_t a, int64_t b) { return whole_part(std::round(std::pow(double(a), double(b)))); },
             [](double a, double b) { return std::pow(a, b); });
       }},
      {"neg", [](V v) { return is_integer(v.at(0)) ? IValue(wrapped(-uint64_t(integer(v[0])))) : IValue(-real(v[0])); }},
      {"pos", [](V v) { return v.at(0); }},
      {"eq", [](V v) { return IValue(real(v.at(0)) == real(v.at(1))); }},
      {"ne", [](V v) { return IValue(real(v.at(0)) != real(v.at(1))); }},
      {"lt", [](V v) { return IValue(real(v.at(0)) < real(v.at(1))); }},
      {"le", [](V v) { return IValue(real(v.at(0)) <= real(v.at(1))); }},
      {"gt", [](V v) { return IValue(real(v.at(0)) > real(v.at(1))); }},
      {"ge", [](V v) { return IValue(real(v.at(0)) >= real(v.at(1))); }},
      {"and_", [](V v) { return IValue(truth(v.at(0)) && truth(v.at(1))); }},
      {"or_", [](V v) { return IValue(truth(v.at(0)) || truth(v.at(1))); }},
      {"not_", [](V v) { return IValue(!truth(v.at(0))); }},
      {"sym_not", [](V v) { return IValue(!truth(v.at(0))); }},
      {"sym_max", [](V v) { return real(v.at(0)) >= real(v.at(1)) ? v[0] : v[1]; }},
      {"sym_min", [](V v) { return real(v.at(0)) <= real(v.at(1)) ? v[0] : v[1]; }},
      {"sym_int", [](V v) { return IValue(whole_part(std::trunc(real(v.at(0))))); }},
      {"sym_float", [](V v) { return IValue(real(v.at(0))); }},
      {"trunc", [](V v) { return IValue(whole_part(std::trunc(real(v.at(0))))); }},
      {"floor", [](V v) { return IValue(whole_part(std::floor(real(v.at(0))))); }},
      {"ceil", [](V v) { return IValue(whole_part(std::ceil(real(v.at(0))))); }},
      {"sqrt", [](V v) { return IValue(std::sqrt(real(v.at(0)))); }},
  };
  const auto found = table.find(name);
  return found == table.end() ? nullptr : found->second;
}

// ---- What operators trust, checked before they are called; the arguments as the operator gets them.

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
