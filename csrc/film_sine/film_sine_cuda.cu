// Launchers of film_sine's kernels. The kernels' notes are in film_sine_forward.cuh and film_sine_backward.cuh.
#include "film_sine/film_sine_cuda.h"

#include "film_sine/film_sine_backward.cuh"
#include "film_sine/film_sine_forward.cuh"

namespace cips3d {

// Typed views of a call's arrays. In float16 x and W enter their product as they are; g grad_h may leave its range.
template <class Arithmetic>
struct FilmSineArrays {
  using T = typename Arithmetic::Element;
  using Real = Compute<T>;
  static constexpr Product kProduct = Arithmetic::kProduct, kGradientProduct = wide_range(kProduct);
  const FilmSineCudaCall& call;
  int64_t rows = call.sizes.batch * call.sizes.points;

  Operand<T> x() const { return {static_cast<const T*>(call.x), rows, call.sizes.inputs}; }
  Operand<T> weight() const { return {static_cast<const T*>(call.weight), call.sizes.outputs, call.sizes.inputs}; }
  const T* bias() const { return static_cast<const T*>(call.bias); }
  Real* grad_h() const { return static_cast<Real*>(call.grad_h); }
  Real* grad_g() const { return static_cast<Real*>(call.grad_g); }
  Real* sums_h() const { return static_cast<Real*>(call.sums_h); }
  Real* sum_parts() const { return static_cast<Real*>(call.sum_parts); }
  Operand<Real, TimesFrequency<T>> grad_linear() const {
    return {grad_h(), rows, call.sizes.outputs, TimesFrequency<T>{Film<T>(call)}};
  }

  // out [B,C] = factor * sum over points of array [B,N,C]
  cudaError_t sum_points(const Real* array, void* out, double factor, cudaStream_t stream) const {
    const ArraySource<Real> source{array, call.sizes.points, call.sizes.outputs};
    return launch_segment_sum(source, static_cast<T*>(out), sum_parts(), call.sizes.batch, call.sizes.points,
                              call.sizes.outputs, factor, stream);
  }
};

// linear = x W^T, handed to the epilogue.
template <class Arrays, class Epilogue>
static cudaError_t launch_linear(const Arrays& arrays, const Epilogue& epilogue, cudaStream_t stream) {
  const FilmSineSizes& sizes = arrays.call.sizes;
  return launch_product<Arrays::kProduct, typename Arrays::Real, Lies::kAlongK, Lies::kAlongK>(
      arrays.rows, sizes.outputs, sizes.inputs, 1, arrays.x(), arrays.weight(), epilogue, stream);
}

template <class Arithmetic>
static cudaError_t forward(const FilmSineCudaCall& call, cudaStream_t stream) {
  using T = typename Arithmetic::Element;
  const FilmSineArrays<Arithmetic> arrays{call};
  T* y = static_cast<T*>(call.y);
  const FilmSineForward<T> epilogue{Film<T>(call), arrays.bias(), y, quads_aligned(y, call.sizes.outputs)};
  return launch_linear(arrays, epilogue, stream);
}

template <class Arrays>
static cudaError_t backward_weight(const Arrays& arrays, cudaStream_t stream) {
  using T = typename Arrays::T;
  using Real = typename Arrays::Real;
  const FilmSineCudaCall& call = arrays.call;
  const FilmSineSizes& sizes = call.sizes;
  Real* partials = static_cast<Real*>(call.weight_partials);
  const StoreSums<Real> store(partials, sizes.outputs, sizes.inputs);
  const cudaError_t error = launch_product<Arrays::kGradientProduct, Real, Lies::kAcrossK, Lies::kAcrossK>(
      sizes.outputs, sizes.inputs, arrays.rows, call.weight_splits, arrays.grad_linear(), arrays.x(), store, stream);
  if (error) return error;
  const int64_t elements = sizes.outputs * sizes.inputs;
  const ArraySource<Real> source{partials, call.weight_splits, elements};
  return launch_segment_sum(source, static_cast<T*>(call.grad_weight), arrays.sum_parts(), 1, call.weight_splits,
                            elements, 1.0, stream);
}

// grad_bias and grad_beta are both made of grad_h summed over each sample's points.
template <class Arrays>
static cudaError_t backward_sums(const Arrays& arrays, cudaStream_t stream) {
  using T = typename Arrays::T;
  using Real = typename Arrays::Real;
  const FilmSineCudaCall& call = arrays.call;
  const FilmSineSizes& sizes = call.sizes;
  const ArraySource<Real> of_h{arrays.grad_h(), sizes.points, sizes.outputs};
  cudaError_t error = launch_segment_sum(of_h, arrays.sums_h(), arrays.sum_parts(), sizes.batch, sizes.points,
                                         sizes.outputs, 1.0, stream);
  if (!error && call.grad_bias) {
    const BiasSource<T> source{Film<T>(call), arrays.sums_h()};
    error = launch_segment_sum(source, static_cast<T*>(call.grad_bias), arrays.sum_parts(), 1, sizes.batch,
                               sizes.outputs, 1.0, stream);
  }
  if (!error && call.grad_beta) {
    const ArraySource<Real> sums{arrays.sums_h(), 1, sizes.outputs};
    error = launch_segment_sum(sums, static_cast<T*>(call.grad_beta), arrays.sum_parts(), sizes.batch, 1, sizes.outputs,
                               call.options.beta_scale, stream);
  }
  return error;
}

template <class Arithmetic>
static cudaError_t backward(const FilmSineCudaCall& call, cudaStream_t stream) {
  using Arrays = FilmSineArrays<Arithmetic>;
  using T = typename Arrays::T;
  using Real = typename Arrays::Real;
  const Arrays arrays{call};
  const FilmSineSizes& sizes = call.sizes;
  const FilmSineBackwardElement<T> element{
      Film<T>(call),   arrays.bias(),   static_cast<const T*>(call.grad_y),
      arrays.grad_h(), arrays.grad_g(), quads_aligned(arrays.grad_h(), sizes.outputs)};
  cudaError_t error = launch_linear(arrays, element, stream);
  if (!error && call.grad_x)
    error = launch_product<Arrays::kGradientProduct, Real, Lies::kAlongK, Lies::kAcrossK>(
        arrays.rows, sizes.inputs, sizes.outputs, 1, arrays.grad_linear(), arrays.weight(),
        StoreSums<T>(static_cast<T*>(call.grad_x), arrays.rows, sizes.inputs), stream);
  if (!error && call.grad_weight) error = backward_weight(arrays, stream);
  if (!error && call.grad_gamma)
    error = arrays.sum_points(arrays.grad_g(), call.grad_gamma, call.options.gamma_scale, stream);
  if (!error && (call.grad_bias || call.grad_beta)) error = backward_sums(arrays, stream);
  return error;
}

cudaError_t launch_film_sine_forward(const FilmSineCudaCall& call, cudaStream_t stream) {
  return with_arithmetic(call.dtype, call.reduced_precision,
                         [&](auto arithmetic) { return forward<decltype(arithmetic)>(call, stream); });
}

cudaError_t launch_film_sine_backward(const FilmSineCudaCall& call, cudaStream_t stream) {
  return with_arithmetic(call.dtype, call.reduced_precision,
                         [&](auto arithmetic) { return backward<decltype(arithmetic)>(call, stream); });
}

}  // namespace cips3d
