// film_sine's forward kernel: a matrix product with the sine in its epilogue.
//
// Computes  y = sin(g * (x W^T + bias) + h)
// Axes      the rows of all samples one after the other, [B*N], so that samples of few points share tiles.
// Launch    launch_product, M = B*N, N = O, K = I.
// Traffic   x once for a tile's channels of y, weight from L2, y written once; the linear map's result never reaches
//           memory.
// Numerics  as cuda_gemm.cuh (float64, exact float32) or cuda_tensor_gemm.cuh (operands as they are in float16 and
//           bfloat16); from the sums on in float (double for double), y rounded once.
// Limit     as theirs.
#pragma once
#include "common/cuda_math.cuh"
#include "common/cuda_tensor_gemm.cuh"
#include "film_sine/film_sine_cuda.h"

namespace cips3d {

// g and h of each sample and channel.
template <class T>
struct Film {
  using Real = Compute<T>;
  const T *gamma, *beta;
  Real gamma_scale, gamma_offset, beta_scale;
  int64_t points, outputs;

  explicit Film(const FilmSineCudaCall& call)
      : gamma(static_cast<const T*>(call.gamma)),
        beta(static_cast<const T*>(call.beta)),
        gamma_scale(Real(call.options.gamma_scale)),
        gamma_offset(Real(call.options.gamma_offset)),
        beta_scale(Real(call.options.beta_scale)),
        points(call.sizes.points),
        outputs(call.sizes.outputs) {}

  __device__ __forceinline__ Real frequency(int64_t sample, int64_t channel) const {
    return gamma ? gamma_scale * static_cast<Real>(gamma[sample * outputs + channel]) + gamma_offset : Real(1);
  }
  __device__ __forceinline__ Real phase(int64_t sample, int64_t channel) const {
    return beta ? beta_scale * static_cast<Real>(beta[sample * outputs + channel]) : Real(0);
  }
};

template <class T>
struct FilmSineForward {
  using Real = Compute<T>;
  Film<T> film;
  const T* bias;
  T* y;
  bool quads;

  __device__ __forceinline__ void operator()(int64_t, int64_t row, int64_t column, int count,
                                             const Real (&sums)[kQuad]) const {
    const int64_t sample = sample_of(row, film.points);
    Real values[kQuad];
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      if (i >= count) continue;
      const int64_t channel = column + i;
      const Real linear = sums[i] + (bias ? static_cast<Real>(bias[channel]) : Real(0));
      values[i] = sine(film_phase(linear, film.frequency(sample, channel), film.phase(sample, channel)));
    }
    store_quad(y + row * film.outputs + column, values, count, quads);
  }
};

}  // namespace cips3d
