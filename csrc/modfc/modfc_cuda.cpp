// modfc for CUDA tensors (for CPU tensors on the emulator): allocation, launch, registration. Kernels: modfc_cuda.cu.
#include "modfc/modfc_cuda.h"

#include "common/cuda_sizes.h"
#include "common/torch_cuda.h"
#include "modfc/modfc.h"

namespace cips3d {

static ModfcCudaCall make_cuda_call(const ModfcCall& call) {
  ModfcCudaCall cuda{};
  cuda.dtype = cuda_dtype(call.x);
  cuda.sizes = call.sizes;
  cuda.options = call.options;
  cuda.noise_strides = call.noise_strides;
  cuda.reduced_precision = call.reduced_precision;
  cuda.x = data(call.x);
  cuda.weight = data(call.weight);
  cuda.style = data(call.style);
  cuda.bias = data(call.bias);
  cuda.noise = data(call.noise);
  cuda.skip = data(call.skip);
  cuda.to_rgb = data(call.to_rgb);
  return cuda;
}

// The kernels work on rows [B,N,.]: what comes as channels [B,.,N] is transposed for them, and their results back.
static Tensor transposed(const Tensor& t) { return as_contiguous(torch::stable::transpose(t, 1, 2)); }
static std::optional<Tensor> transposed(const std::optional<Tensor>& t) {
  return t ? std::optional<Tensor>(transposed(*t)) : std::nullopt;
}

static ModfcCall as_rows(ModfcCall call) {
  call.x = transposed(call.x);
  call.skip = transposed(call.skip);
  if (call.noise) call.noise = torch::stable::transpose(*call.noise, 1, 2);  // read through its strides
  call.channels_first = false;
  return call;
}

static Tensor as_channels(const Tensor& rows) { return rows.dim() == 3 ? transposed(rows) : rows; }  // or none at all

static int64_t if_needed(bool needed, int64_t size) { return needed ? size : 0; }

// Keeps nothing: backward computes the product again.
static ModfcOutputs modfc_cuda(const ModfcCall& call, ModfcKeep keep) {
  if (call.channels_first) {
    const auto [y, rgb, kept, demodulation] = modfc_cuda(as_rows(call), keep);
    return {as_channels(y), rgb, kept, demodulation};
  }
  const LaunchScope scope(call.x);
  const ModfcSizes& s = call.sizes;
  Tensor y = new_output(call.x, {s.batch, s.points, s.outputs});
  ModfcCudaCall cuda = make_cuda_call(call);
  cuda.y = y.mutable_data_ptr();
  Tensor rgb = no_gradient(call.x);
  if (call.to_rgb) rgb = new_output(call.x, {s.batch, s.points, s.colours});
  cuda.rgb = rgb.numel() > 0 ? rgb.mutable_data_ptr() : nullptr;
  const int64_t rows = s.batch * s.points;
  const int64_t tiles = tiles_of_columns(wide_range(product_of(cuda.dtype, cuda.reduced_precision)), s.outputs);
  const Workspace partials(call.x, {tiles, rows, s.colours}, &cuda.rgb_partials);
  const Workspace sum_parts(call.x, {segment_sum_workspace(1, tiles, rows * s.colours)}, &cuda.sum_parts);
  const Workspace d(call.x, {if_needed(call.options.demodulate, s.batch), s.outputs}, &cuda.demodulation);
  check_launch("modfc", launch_modfc_forward(cuda, scope.stream()));
  const ModfcKept kept = nothing_kept(call.x);
  return {y, rgb, kept.kept, kept.demodulation};
}

static ModfcGradients modfc_backward_cuda(const ModfcCall& call, const ModfcResults& results, const ModfcKept& kept,
                                          int64_t grad_mask) {
  if (call.channels_first) {
    const auto [x, weight, style, bias, noise, skip, to_rgb] =
        modfc_backward_cuda(as_rows(call), {transposed(results.grad_y), std::nullopt, std::nullopt}, kept, grad_mask);
    return {as_channels(x), weight, style, bias, as_channels(noise), as_channels(skip), to_rgb};
  }
  const LaunchScope scope(call.x);
  const ModfcSizes& s = call.sizes;
  const int64_t rows = s.batch * s.points;
  ModfcCudaCall cuda = make_cuda_call(call);
  cuda.grad_y = data(results.grad_y);
  cuda.grad_rgb = data(results.grad_rgb);
  cuda.kept_y = data(results.y);
  NewGradients gradients(call.x, grad_mask);
  Tensor grad_x = gradients.make(kModfcGradX, call.x, &cuda.grad_x);
  Tensor grad_weight = gradients.make(kModfcGradWeight, call.weight, &cuda.grad_weight);
  Tensor grad_style = gradients.make(kModfcGradStyle, call.style, &cuda.grad_style);
  Tensor grad_bias = gradients.make(kModfcGradBias, call.bias, &cuda.grad_bias);
  Tensor grad_noise = gradients.make(kModfcGradNoise, call.noise, &cuda.grad_noise);
  Tensor grad_skip = gradients.make(kModfcGradSkip, call.skip, &cuda.grad_skip);
  Tensor grad_to_rgb = gradients.make(kModfcGradToRgb, call.to_rgb, &cuda.grad_to_rgb);

  const bool of_style = cuda.grad_style != nullptr, of_weight = cuda.grad_weight != nullptr;
  const bool of_d = call.options.demodulate && (of_style || of_weight);
  const Product product = wide_range(product_of(cuda.dtype, cuda.reduced_precision));
  cuda.weight_splits = gemm_splits(product, s.outputs, s.inputs, rows);
  const Workspace d(call.x, {if_needed(call.options.demodulate, s.batch), s.outputs}, &cuda.demodulation);
  const Workspace grad_u(call.x, {rows, s.outputs}, &cuda.grad_u);
  const Workspace grad_d_terms(call.x, {if_needed(of_d, rows), s.outputs}, &cuda.grad_d_terms);
  const Workspace grad_d(call.x, {if_needed(of_d, s.batch), s.outputs}, &cuda.grad_d);
  const Workspace grad_m_terms(call.x, {if_needed(of_style, rows), s.inputs}, &cuda.grad_m_terms);
  const Workspace grad_m(call.x, {if_needed(of_style, s.batch), s.inputs}, &cuda.grad_m);
  const Workspace partials(call.x, {if_needed(of_weight, cuda.weight_splits), s.outputs, s.inputs},
                           &cuda.weight_partials);
  const int64_t over_points = segment_sum_workspace(s.batch, s.points, std::max(s.inputs, s.outputs));
  const int64_t over_rows = segment_sum_workspace(std::max<int64_t>(1, s.colours), rows, s.outputs);
  const Workspace sum_parts(call.x, {std::max(over_points, over_rows)}, &cuda.sum_parts);
  check_launch("modfc_backward", launch_modfc_backward(cuda, scope.stream()));
  return {grad_x, grad_weight, grad_style, grad_bias, grad_noise, grad_skip, grad_to_rgb};
}

}  // namespace cips3d

CIPS3D_CUDA_LIBRARY_IMPL(m) {
  m.impl("modfc", TORCH_BOX(&(cips3d::modfc_entry<cips3d::modfc_cuda>)));
  m.impl("modfc_backward", TORCH_BOX(&(cips3d::modfc_backward_entry<cips3d::modfc_backward_cuda>)));
}
