// Launchers of modfc's kernels. The kernels' notes are in modfc_forward.cuh and modfc_backward.cuh.
#include "modfc/modfc_cuda.h"

#include "modfc/modfc_backward.cuh"
#include "modfc/modfc_forward.cuh"

namespace cips3d {

constexpr Lies kAlong = Lies::kAlongK, kAcross = Lies::kAcrossK;

// A call's arrays with their types, and the steps of forward and backward. Each step launches and returns its error.
// In float16 x m, t and the squares may leave its range whatever x, W and style are: wide_range().
template <class Arithmetic>
struct ModfcSteps {
  using T = typename Arithmetic::Element;
  using Real = Compute<T>;
  static constexpr Product kProduct = wide_range(Arithmetic::kProduct);
  const ModfcCudaCall& call;
  cudaStream_t stream;
  int64_t samples = call.sizes.batch, points = call.sizes.points;
  int64_t inputs = call.sizes.inputs, outputs = call.sizes.outputs;
  int64_t rows = samples * points;
  Modulation<T> m{call};
  const T* x = static_cast<const T*>(call.x);
  const T* weight = static_cast<const T*>(call.weight);
  Real* d = static_cast<Real*>(call.demodulation);
  Real* grad_u = static_cast<Real*>(call.grad_u);
  Real* grad_d = static_cast<Real*>(call.grad_d);
  Real* grad_m = static_cast<Real*>(call.grad_m);
  Real* sum_parts = static_cast<Real*>(call.sum_parts);

  Operand<T, TimesModulation<T>> modulated_x() const { return {x, rows, inputs, {m}}; }
  Operand<T, SquareOfModulation<T>> squared_m() const { return {m.style, samples, inputs, {m}}; }
  Operand<T> plain_weight() const { return {weight, outputs, inputs}; }
  Operand<T, Square> squared_weight() const { return {weight, outputs, inputs, {}}; }
  Operand<Real, TimesDemodulation<T>> t() const { return {grad_u, rows, outputs, {d, points, outputs}}; }
  Operand<Real, GradSquareSum<Real>> v() const { return {grad_d, samples, outputs, {d, outputs}}; }

  cudaError_t demodulation() const {
    if (!d) return cudaSuccess;
    const StoreDemodulation<Real> epilogue{d, Real(call.options.eps), outputs};
    return launch_product<kProduct, Real, kAlong, kAlong>(samples, outputs, inputs, 1, squared_m(), squared_weight(),
                                                          epilogue, stream);
  }

  template <class Epilogue>
  cudaError_t linear(const Epilogue& epilogue) const {
    return launch_product<kProduct, Real, kAlong, kAlong>(rows, outputs, inputs, 1, modulated_x(), plain_weight(),
                                                          epilogue, stream);
  }

  cudaError_t forward() const {
    if (const cudaError_t error = demodulation()) return error;
    if (!call.rgb) return linear(ModfcForward<T>(call));
    const cudaError_t error = linear(ModfcForwardWithRgb<T>(call));
    const int64_t tiles = tiles_of_columns(kProduct, outputs);
    return error ? error : sum<T>(call.rgb_partials, call.rgb, 1, tiles, rows * call.sizes.colours);
  }

  // out [groups,columns] = sum of array [groups,n,columns]
  template <class Out>
  cudaError_t sum(const void* array, void* out, int64_t groups, int64_t n, int64_t columns) const {
    const ArraySource<Real> source{static_cast<const Real*>(array), n, columns};
    return launch_segment_sum(source, static_cast<Out*>(out), sum_parts, groups, n, columns, 1.0, stream);
  }

  // grad_x and the terms of grad_m
  cudaError_t backward_input() const {
    T* grad_x = static_cast<T*>(call.grad_x);
    Real* terms = static_cast<Real*>(call.grad_m_terms);
    const ModfcInputGradient<T> epilogue{
        m, x, grad_x, terms, quads_aligned(grad_x, inputs), quads_aligned(terms, inputs)};
    return launch_product<kProduct, Real, kAlong, kAcross>(rows, inputs, outputs, 1, t(), plain_weight(), epilogue,
                                                           stream);
  }

  cudaError_t backward_style() const {
    const ModfcStyleGradient<T> epilogue{m, grad_m, static_cast<T*>(call.grad_style)};
    const cudaError_t error = sum<Real>(call.grad_m_terms, grad_m, samples, points, inputs);
    return error ? error
                 : launch_product<kProduct, Real, kAlong, kAcross>(samples, inputs, d ? outputs : 0, 1, v(),
                                                                   squared_weight(), epilogue, stream);
  }

  cudaError_t backward_weight() const {
    Real* partials = static_cast<Real*>(call.weight_partials);
    const StoreSums<Real> store(partials, outputs, inputs);
    const ModfcWeightGradient<T> epilogue{weight,  partials, call.weight_splits,
                                          outputs, inputs,   static_cast<T*>(call.grad_weight)};
    const cudaError_t error = launch_product<kProduct, Real, kAcross, kAcross>(
        outputs, inputs, rows, call.weight_splits, t(), modulated_x(), store, stream);
    return error ? error
                 : launch_product<kProduct, Real, kAcross, kAcross>(outputs, inputs, d ? samples : 0, 1, v(),
                                                                    squared_m(), epilogue, stream);
  }

  cudaError_t backward_to_rgb() const {
    const int64_t colours = call.sizes.colours;
    const RgbTimesOutput<T> source{static_cast<const T*>(call.grad_rgb), static_cast<const T*>(call.kept_y), colours,
                                   outputs};
    return launch_segment_sum(source, static_cast<T*>(call.grad_to_rgb), sum_parts, colours, call.grad_rgb ? rows : 0,
                              outputs, 1.0, stream);
  }

  cudaError_t backward() const {
    cudaError_t error = demodulation();
    if (!error) error = linear(ModfcBackwardElement<T>(call));
    if (!error && grad_d) error = sum<Real>(call.grad_d_terms, grad_d, samples, points, outputs);
    if (!error && (call.grad_x || call.grad_style)) error = backward_input();
    if (!error && call.grad_style) error = backward_style();
    if (!error && call.grad_weight) error = backward_weight();
    if (!error && call.grad_bias) error = sum<T>(grad_u, call.grad_bias, 1, rows, outputs);
    if (!error && call.grad_to_rgb) error = backward_to_rgb();
    return error;
  }
};

cudaError_t launch_modfc_forward(const ModfcCudaCall& call, cudaStream_t stream) {
  return with_arithmetic(call.dtype, call.reduced_precision,
                         [&](auto arithmetic) { return ModfcSteps<decltype(arithmetic)>{call, stream}.forward(); });
}

cudaError_t launch_modfc_backward(const ModfcCudaCall& call, cudaStream_t stream) {
  return with_arithmetic(call.dtype, call.reduced_precision,
                         [&](auto arithmetic) { return ModfcSteps<decltype(arithmetic)>{call, stream}.backward(); });
}

}  // namespace cips3d
