#include "core/programs/allowlist.h"

#include <set>
#include <sstream>

namespace evoke {

// LibTorch has some two thousand operators, and many trust their callers with shapes, strides or raw storage (backward
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

}  // namespace evoke
