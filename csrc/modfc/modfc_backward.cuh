// modfc's backward kernels: what enters and leaves the matrix products and sums of csrc/common.
//
// Computes  linear and u again, then
//             grad_skip    = grad_y + grad_rgb to_rgb
//             grad_u       = grad_skip through clamp, gain and activation
//             grad_d       = sum_n grad_u linear,   v = -grad_d d^3 / 2, the gradient of q = sum_i (W m)^2
//             t            = grad_u d,              s = t W                       (the gradient of x m)
//             grad_x       = s m,                   grad_m = sum_n s x + 2 m (v W^2),   grad_style = scale grad_m
//             grad_weight  = t^T (x m) + 2 W (v^T m^2)
//             grad_noise   = grad_u,                grad_bias = sum over samples and points of grad_u
//             grad_to_rgb  = sum over samples and points of grad_rgb^T y
// Axes      rows [B*N] as in the forward.
// Launch    launch_product for linear, s, v W^2, t^T (x m) (split over rows) and v^T m^2; launch_segment_sum for the
//           sums.
// Traffic   one weight matrix for all samples; grad_u is written once and read for each gradient that is wanted.
// Numerics  as the forward; sums in an order that depends on the sizes alone.
// Limit     working memory of up to two [B*N,O] arrays and one [B*N,I] in float (double for double).
#pragma once
#include "common/cuda_segment_sum.cuh"
#include "modfc/modfc_forward.cuh"

namespace cips3d {

// Epilogue of the recomputed product.
template <class T>
struct ModfcBackwardElement {
  using Real = Compute<T>;
  ModfcElement<T> element;
  const T *grad_y, *grad_rgb, *to_rgb;  // grad_y and grad_rgb may be null
  int64_t colours;
  Real *grad_u, *grad_d_terms;  // this and the next two may be null
  T *grad_noise, *grad_skip;
  bool quads, noise_quads, skip_quads;

  explicit ModfcBackwardElement(const ModfcCudaCall& call)
      : element(call),
        grad_y(static_cast<const T*>(call.grad_y)),
        grad_rgb(static_cast<const T*>(call.grad_rgb)),
        to_rgb(static_cast<const T*>(call.to_rgb)),
        colours(call.grad_rgb ? call.sizes.colours : 0),
        grad_u(static_cast<Real*>(call.grad_u)),
        grad_d_terms(static_cast<Real*>(call.grad_d_terms)),
        grad_noise(static_cast<T*>(call.grad_noise)),
        grad_skip(static_cast<T*>(call.grad_skip)),
        quads(quads_aligned(grad_u, call.sizes.outputs)),
        noise_quads(quads_aligned(grad_noise, call.sizes.outputs)),
        skip_quads(quads_aligned(grad_skip, call.sizes.outputs)) {}

  // What reaches up to `count` neighbours of y: grad_y + grad_rgb to_rgb.
  __device__ __forceinline__ void grad_of_y(int64_t row, int64_t column, int count, Real (&grad)[kQuad]) const {
    if (grad_y) load_row(grad_y + row * element.outputs + column, count, grad);
    for (int64_t k = 0; k < colours; ++k) {
      const Real factor = static_cast<Real>(grad_rgb[row * colours + k]);
      Real of_colour[kQuad];
      load_row(to_rgb + k * element.outputs + column, count, of_colour);
#pragma unroll
      for (int i = 0; i < kQuad; ++i) grad[i] += factor * of_colour[i];
    }
  }

  __device__ __forceinline__ void operator()(int64_t, int64_t row, int64_t column, int count,
                                             const Real (&sums)[kQuad]) const {
    const int64_t sample = sample_of(row, element.points), offset = row * element.outputs + column;
    Real grad[kQuad] = {}, of_u[kQuad], of_d[kQuad];
    grad_of_y(row, column, count, grad);
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      if (i >= count) continue;
      const Real u = element.argument(sums[i], row, sample, column + i);
      of_u[i] = element.grad_argument(grad[i], u);
      of_d[i] = of_u[i] * sums[i];
    }
    store_quad(grad_u + offset, of_u, count, quads);
    if (grad_d_terms) store_quad(grad_d_terms + offset, of_d, count, quads);
    if (grad_noise) store_quad(grad_noise + offset, of_u, count, noise_quads);
    if (grad_skip) store_quad(grad_skip + offset, grad, count, skip_quads);
  }
};

// Source of the sums that are grad_to_rgb.
template <class T>
struct RgbTimesOutput {
  const T *grad_rgb, *y;
  int64_t colours, outputs;
  __device__ __forceinline__ Compute<T> operator()(int64_t colour, int64_t row, int64_t channel) const {
    return static_cast<Compute<T>>(grad_rgb[row * colours + colour]) *
           static_cast<Compute<T>>(y[row * outputs + channel]);
  }
};

// Transform of grad_u to t.
template <class T>
struct TimesDemodulation {
  const Compute<T>* d;  // null: no demodulation
  int64_t points, outputs;
  template <class Real, int Size>
  __device__ __forceinline__ void operator()(Real (&grad_u)[Size], int64_t row, int64_t channel, int count) const {
    if (!d) return;
    Real factor[Size];
    load_row(d + sample_of(row, points) * outputs + channel, count, factor);
#pragma unroll
    for (int i = 0; i < Size; ++i) grad_u[i] *= factor[i];
  }
};

// Transform of grad_d to v.
template <class Real>
struct GradSquareSum {
  const Real* d;
  int64_t outputs;
  template <int Size>
  __device__ __forceinline__ void operator()(Real (&grad_d)[Size], int64_t sample, int64_t channel, int count) const {
    Real d_here[Size];
    load_row(d + sample * outputs + channel, count, d_here);
#pragma unroll
    for (int i = 0; i < Size; ++i) grad_d[i] = modfc_grad_square_sum(grad_d[i] * d_here[i], d_here[i]);
  }
};

// Epilogue of s: grad_x, and the terms of grad_m. Either may be null.
template <class T>
struct ModfcInputGradient {
  using Real = Compute<T>;
  Modulation<T> m;
  const T* x;
  T* grad_x;
  Real* grad_m_terms;
  bool quads, term_quads;

  __device__ __forceinline__ void operator()(int64_t, int64_t row, int64_t column, int count,
                                             const Real (&sums)[kQuad]) const {
    const int64_t sample = sample_of(row, m.points), offset = row * m.inputs + column;
    Real of_x[kQuad], of_m[kQuad];
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      if (i >= count) continue;
      of_x[i] = sums[i] * m(sample, column + i);
      of_m[i] = sums[i] * static_cast<Real>(x[offset + i]);
    }
    if (grad_x) store_quad(grad_x + offset, of_x, count, quads);
    if (grad_m_terms) store_quad(grad_m_terms + offset, of_m, count, term_quads);
  }
};

// Epilogue of v W^2 (zero without demodulation).
template <class T>
struct ModfcStyleGradient {
  using Real = Compute<T>;
  Modulation<T> m;
  const Real* grad_m;
  T* grad_style;

  __device__ __forceinline__ void operator()(int64_t, int64_t sample, int64_t column, int count,
                                             const Real (&sums)[kQuad]) const {
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      if (i >= count) continue;
      const int64_t offset = sample * m.inputs + column + i;
      grad_style[offset] = static_cast<T>(m.scale * (grad_m[offset] + 2 * m(sample, column + i) * sums[i]));
    }
  }
};

// Epilogue of v^T m^2 (zero without demodulation): adds the parts of t^T (x m).
template <class T>
struct ModfcWeightGradient {
  using Real = Compute<T>;
  const T* weight;
  const Real* partials;
  int64_t splits, outputs, inputs;
  T* grad_weight;

  __device__ __forceinline__ void operator()(int64_t, int64_t row, int64_t column, int count,
                                             const Real (&sums)[kQuad]) const {
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      if (i >= count) continue;
      const int64_t offset = row * inputs + column + i;
      Real product = 0;
      for (int64_t split = 0; split < splits; ++split) product += partials[split * outputs * inputs + offset];
      grad_weight[offset] = static_cast<T>(product + 2 * static_cast<Real>(weight[offset]) * sums[i]);
    }
  }
};

}  // namespace cips3d
