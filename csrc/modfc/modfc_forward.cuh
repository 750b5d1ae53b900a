// modfc's forward kernels: two matrix products, with the modulation on what they read.
//
// Computes  d = rsqrt(m^2 (W^2)^T + eps),  y = clamp(gain * act(d * ((x m) W^T) + noise + bias)) + skip,
//           m = scale (style + offset),  rgb = y to_rgb^T
// Axes      rows of all samples one after the other, [B*N]: a batch of single rows fills tiles as well as one large
//           image.
// Launch    launch_product: d with M = B, N = O, K = I; y with M = B*N, N = O, K = I; launch_segment_sum adds the
//           tiles' sums of a row to its colours.
// Traffic   one weight matrix for all samples (never B of them), x once for a tile's channels of y, y written once; of
//           the colours K numbers a row and tile.
// Numerics  as cuda_gemm.cuh (float64, exact float32) or cuda_tensor_gemm.cuh: x m rounded once to the operand's 16
//           bits, x W'^T in float, y rounded once.
// Limit     as theirs; d costs as many multiply-adds as one row of x a sample.
#pragma once
#include "common/cuda_math.cuh"
#include "common/cuda_tensor_gemm.cuh"
#include "modfc/modfc_cuda.h"

namespace cips3d {

// m[b,i] of a style [B,I].
template <class T>
struct Modulation {
  using Real = Compute<T>;
  const T* style;
  Real scale, offset;
  int64_t points, inputs;

  explicit Modulation(const ModfcCudaCall& call)
      : style(static_cast<const T*>(call.style)),
        scale(Real(call.options.scale)),
        offset(Real(call.options.style_offset)),
        points(call.sizes.points),
        inputs(call.sizes.inputs) {}

  __device__ __forceinline__ Real of_style(Real style_element) const { return scale * (style_element + offset); }
  __device__ __forceinline__ Real operator()(int64_t sample, int64_t input) const {
    return of_style(static_cast<Real>(style[sample * inputs + input]));
  }
};

// Transform of x to x m.
template <class T>
struct TimesModulation {
  Modulation<T> m;
  template <class Real, int Size>
  __device__ __forceinline__ void operator()(Real (&x)[Size], int64_t row, int64_t input, int count) const {
    Real style[Size];
    load_row(m.style + sample_of(row, m.points) * m.inputs + input, count, style);
#pragma unroll
    for (int i = 0; i < Size; ++i) x[i] *= m.of_style(style[i]);
  }
};

// Transform of the style to m^2.
template <class T>
struct SquareOfModulation {
  Modulation<T> m;
  template <class Real, int Size>
  __device__ __forceinline__ void operator()(Real (&style)[Size], int64_t, int64_t, int) const {
#pragma unroll
    for (int i = 0; i < Size; ++i) style[i] = m.of_style(style[i]) * m.of_style(style[i]);
  }
};

// Transform of W to W^2.
struct Square {
  template <class Real, int Size>
  __device__ __forceinline__ void operator()(Real (&values)[Size], int64_t, int64_t, int) const {
#pragma unroll
    for (int i = 0; i < Size; ++i) values[i] *= values[i];
  }
};

// Epilogue of sum (W m)^2.
template <class Real>
struct StoreDemodulation {
  Real* d;
  Real eps;
  int64_t outputs;
  __device__ __forceinline__ void operator()(int64_t, int64_t sample, int64_t column, int count,
                                             const Real (&sums)[kQuad]) const {
#pragma unroll
    for (int i = 0; i < kQuad; ++i)
      if (i < count) d[sample * outputs + column + i] = rsqrt(sums[i] + eps);
  }
};

// What follows the product, element by element: u = d * linear + noise + bias, y = clamp(gain * act(u)).
template <class T>
struct ModfcElement {
  using Real = Compute<T>;
  const Real* d;
  const T *bias, *noise;
  ModfcNoiseStrides strides;
  int64_t points, outputs;
  bool is_sine, has_clamp;
  Real slope, gain, limit;

  explicit ModfcElement(const ModfcCudaCall& call)
      : d(static_cast<const Real*>(call.demodulation)),
        bias(static_cast<const T*>(call.bias)),
        noise(static_cast<const T*>(call.noise)),
        strides(call.noise_strides),
        points(call.sizes.points),
        outputs(call.sizes.outputs),
        is_sine(call.options.activation == ModfcActivation::kSin),
        has_clamp(call.options.has_clamp),
        slope(Real(modfc_slope(call.options))),
        gain(Real(call.options.gain)),
        limit(Real(call.options.clamp)) {}

  __device__ __forceinline__ Real argument(Real linear, int64_t row, int64_t sample, int64_t channel) const {
    Real u = d ? d[sample * outputs + channel] * linear : linear;
    if (noise) {
      const int64_t point = row - sample * points;
      u += static_cast<Real>(noise[sample * strides.batch + point * strides.points + channel * strides.outputs]);
    }
    return bias ? u + static_cast<Real>(bias[channel]) : u;
  }
  __device__ __forceinline__ Real unclamped(Real u) const {
    return gain * (is_sine ? sine(u) : modfc_piecewise_linear(u, slope));
  }
  __device__ __forceinline__ Real value(Real u) const {
    return has_clamp ? modfc_clamp(unclamped(u), limit) : unclamped(u);
  }
  __device__ __forceinline__ Real grad_argument(Real grad_y, Real u) const {
    const Real grad = has_clamp ? modfc_clamp_grad(grad_y, unclamped(u), limit) : grad_y;
    return grad * gain * (is_sine ? cosine(u) : modfc_piecewise_linear_grad(u, slope, Real(1)));
  }
};

// Epilogue of the forward product.
template <class T>
struct ModfcForward {
  using Real = Compute<T>;
  ModfcElement<T> element;
  const T* skip;  // may be null
  T* y;
  bool quads;

  explicit ModfcForward(const ModfcCudaCall& call)
      : element(call),
        skip(static_cast<const T*>(call.skip)),
        y(static_cast<T*>(call.y)),
        quads(quads_aligned(y, call.sizes.outputs)) {}

  // Writes what it returns, up to `count` neighbours of y, in `values`.
  __device__ __forceinline__ void store(int64_t row, int64_t column, int count, const Real (&sums)[kQuad],
                                        Real (&values)[kQuad]) const {
    const int64_t sample = sample_of(row, element.points), offset = row * element.outputs + column;
    Real skipped[kQuad] = {};
    if (skip) load_row(skip + offset, count, skipped);
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      if (i >= count) continue;
      values[i] = element.value(element.argument(sums[i], row, sample, column + i)) + skipped[i];
    }
    store_quad(y + offset, values, count, quads);
  }

  __device__ __forceinline__ void operator()(int64_t, int64_t row, int64_t column, int count,
                                             const Real (&sums)[kQuad]) const {
    Real values[kQuad];
    store(row, column, count, sums, values);
  }
};

// The same with the tile's share of each row's colours.
template <class T>
struct ModfcForwardWithRgb {
  using Real = Compute<T>;
  static constexpr int kRowSums = kModfcMostColours;
  ModfcForward<T> forward;
  const T* to_rgb;
  Real* partials;  // [tiles, rows, colours]
  int64_t rows, colours;

  explicit ModfcForwardWithRgb(const ModfcCudaCall& call)
      : forward(call),
        to_rgb(static_cast<const T*>(call.to_rgb)),
        partials(static_cast<Real*>(call.rgb_partials)),
        rows(call.sizes.batch * call.sizes.points),
        colours(call.sizes.colours) {}

  __device__ __forceinline__ void operator()(int64_t, int64_t row, int64_t column, int count, const Real (&sums)[kQuad],
                                             Real (&of_row)[kRowSums]) const {
    Real values[kQuad];
    forward.store(row, column, count, sums, values);
#pragma unroll
    for (int k = 0; k < kRowSums; ++k) {
      if (k >= colours) continue;
      Real factors[kQuad];
      load_row(to_rgb + k * forward.element.outputs + column, count, factors);
#pragma unroll
      for (int i = 0; i < kQuad; ++i)
        if (i < count) of_row[k] += values[i] * factors[i];
    }
  }

  __device__ __forceinline__ void store_row_sums(int64_t tile, int64_t row, const Real (&of_row)[kRowSums]) const {
#pragma unroll
    for (int k = 0; k < kRowSums; ++k)
      if (k < colours) partials[(tile * rows + row) * colours + k] = of_row[k];
  }
};

}  // namespace cips3d
