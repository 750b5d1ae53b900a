// film_sine for CUDA tensors (for CPU tensors on the emulator): allocation, launch, registration. Kernels:
// film_sine_cuda.cu.
#include "film_sine/film_sine_cuda.h"

#include "common/cuda_sizes.h"
#include "common/torch_cuda.h"
#include "film_sine/film_sine.h"

namespace cips3d {

static FilmSineCudaCall make_cuda_call(const FilmSineCall& call) {
  FilmSineCudaCall cuda{};
  cuda.dtype = cuda_dtype(call.x);
  cuda.sizes = call.sizes;
  cuda.options = call.options;
  cuda.reduced_precision = call.reduced_precision;
  cuda.x = data(call.x);
  cuda.weight = data(call.weight);
  cuda.bias = data(call.bias);
  cuda.gamma = data(call.gamma);
  cuda.beta = data(call.beta);
  return cuda;
}

// Keeps nothing: backward computes the product again.
static FilmSineOutputs film_sine_cuda(const FilmSineCall& call, bool) {
  const LaunchScope scope(call.x);
  Tensor y = new_output(call.x, {call.sizes.batch, call.sizes.points, call.sizes.outputs});
  FilmSineCudaCall cuda = make_cuda_call(call);
  cuda.y = y.mutable_data_ptr();
  check_launch("film_sine", launch_film_sine_forward(cuda, scope.stream()));
  return {y, no_gradient(call.x)};
}

static FilmSineGradients film_sine_backward_cuda(const FilmSineCall& call, const Tensor& grad_y, const Tensor&,
                                                 int64_t grad_mask) {
  const LaunchScope scope(call.x);
  const FilmSineSizes& s = call.sizes;
  const int64_t rows = s.batch * s.points;
  FilmSineCudaCall cuda = make_cuda_call(call);
  cuda.grad_y = data(grad_y);
  NewGradients gradients(call.x, grad_mask);
  Tensor grad_x = gradients.make(kFilmGradX, call.x, &cuda.grad_x);
  Tensor grad_weight = gradients.make(kFilmGradWeight, call.weight, &cuda.grad_weight);
  Tensor grad_bias = gradients.make(kFilmGradBias, call.bias, &cuda.grad_bias);
  Tensor grad_gamma = gradients.make(kFilmGradGamma, call.gamma, &cuda.grad_gamma);
  Tensor grad_beta = gradients.make(kFilmGradBeta, call.beta, &cuda.grad_beta);

  const Product product = wide_range(product_of(cuda.dtype, cuda.reduced_precision));
  cuda.weight_splits = gemm_splits(product, s.outputs, s.inputs, rows);
  const Workspace grad_h(call.x, {rows, s.outputs}, &cuda.grad_h);
  const Workspace grad_g(call.x, {cuda.grad_gamma ? rows : 0, s.outputs}, &cuda.grad_g);
  const Workspace sums_h(call.x, {s.batch, s.outputs}, &cuda.sums_h);
  const Workspace partials(call.x, {cuda.grad_weight ? cuda.weight_splits : 0, s.outputs, s.inputs},
                           &cuda.weight_partials);
  const int64_t over_points = segment_sum_workspace(s.batch, s.points, s.outputs);
  const int64_t over_samples = segment_sum_workspace(1, s.batch, s.outputs);
  const Workspace sum_parts(call.x, {std::max(over_points, over_samples)}, &cuda.sum_parts);
  check_launch("film_sine_backward", launch_film_sine_backward(cuda, scope.stream()));
  return {grad_x, grad_weight, grad_bias, grad_gamma, grad_beta};
}

}  // namespace cips3d

CIPS3D_CUDA_LIBRARY_IMPL(m) {
  m.impl("film_sine", TORCH_BOX(&(cips3d::film_sine_entry<cips3d::film_sine_cuda>)));
  m.impl("film_sine_backward", TORCH_BOX(&(cips3d::film_sine_backward_entry<cips3d::film_sine_backward_cuda>)));
}
