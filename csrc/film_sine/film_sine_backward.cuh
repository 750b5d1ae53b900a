// film_sine's backward kernels: what enters and leaves the matrix products and sums of csrc/common.
//
// Computes  linear again, then grad_h = grad_y cos(g * linear + h) and grad_g = grad_h * linear into working memory;
//           grad_x = (grad_h * g) W, grad_weight = (grad_h * g)^T x, and sums over points for bias, gamma and beta.
// Axes      rows [B*N] as in the forward.
// Launch    launch_product for linear, grad_x and grad_weight (split over rows); launch_segment_sum for the rest.
// Traffic   grad_h is written once and read for each gradient that is wanted; nothing is saved by the forward.
// Numerics  as the forward; sums in an order that depends on the sizes alone.
// Limit     working memory of one or two [B*N,O] arrays in float (double for double).
#pragma once
#include "common/cuda_segment_sum.cuh"
#include "film_sine/film_sine_forward.cuh"

namespace cips3d {

// Epilogue of the recomputed linear map.
template <class T>
struct FilmSineBackwardElement {
  using Real = Compute<T>;
  Film<T> film;
  const T *bias, *grad_y;
  Real *grad_h, *grad_g;  // grad_g may be null
  bool quads;

  __device__ __forceinline__ void operator()(int64_t, int64_t row, int64_t column, int count,
                                             const Real (&sums)[kQuad]) const {
    const int64_t sample = sample_of(row, film.points), offset = row * film.outputs + column;
    Real of_h[kQuad], of_g[kQuad];
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      if (i >= count) continue;
      const int64_t channel = column + i;
      const Real linear = sums[i] + (bias ? static_cast<Real>(bias[channel]) : Real(0));
      const Real phase = film_phase(linear, film.frequency(sample, channel), film.phase(sample, channel));
      of_h[i] = static_cast<Real>(grad_y[offset + i]) * cosine(phase);
      of_g[i] = of_h[i] * linear;
    }
    store_quad(grad_h + offset, of_h, count, quads);
    if (grad_g) store_quad(grad_g + offset, of_g, count, quads);
  }
};

// Transform of grad_h to grad_linear.
template <class T>
struct TimesFrequency {
  Film<T> film;
  template <class Real, int Size>
  __device__ __forceinline__ void operator()(Real (&grad_h)[Size], int64_t row, int64_t channel, int count) const {
    const int64_t sample = sample_of(row, film.points);
#pragma unroll
    for (int i = 0; i < Size; ++i)
      if (i < count) grad_h[i] *= film.frequency(sample, channel + i);
  }
};

// Source of grad_bias: grad_linear summed over each sample's points, by sample and channel.
template <class T>
struct BiasSource {
  Film<T> film;
  const Compute<T>* sums_h;
  __device__ __forceinline__ Compute<T> operator()(int64_t, int64_t sample, int64_t channel) const {
    return sums_h[sample * film.outputs + channel] * film.frequency(sample, channel);
  }
};

}  // namespace cips3d
