// Between film_sine's CPU glue (film_sine_cpu.cpp, knows torch) and its kernels (film_sine_cpu_kernels.h, compiled once
// per SIMD level and dtype): plain pointers and function pointers.
#pragma once
#include "common/cpu_level.h"
#include "common/cpu_tiles.h"
#include "film_sine/film_sine_math.h"

namespace cips3d {

// Arrays have the dtype of x except the working memory: `T` is float, or double for double; `E` is what products
// multiply (cpu_gemm.h), in memory of as many T. Null: absent or not wanted.
struct FilmSineCpuCall {
  FilmSineSizes sizes;
  FilmSineOptions options;
  const void *x, *weight, *bias, *gamma, *beta, *grad_y;
  const void *direction_x, *direction_gamma, *direction_beta;  // of second derivatives
  void *y, *grad_x, *grad_weight, *grad_bias, *grad_gamma, *grad_beta, *grad_grad_y;

  void* linear;           // T [B,N,O], x W^T + bias, from forward to backward; null: not kept
  void* panels;           // E, weight packed for x W^T
  void* grad_panels;      // E, weight packed for grad_linear W
  void* weight_partials;  // T [workers, weight_partial()]: each worker's share of grad_weight
  void* segment_sums;     // T [segments, kFilmSums or kFilmSecondSums, padded O]

  CIPS3D_HOST_DEVICE RowTiles tiles() const { return {sizes.batch, sizes.points}; }
  CIPS3D_HOST_DEVICE int64_t weight_partial() const {
    return padded(sizes.outputs, kBlockPadding) * row_stride(sizes.inputs);
  }
};

inline constexpr int64_t kFilmSums = 2;        // of grad_h and grad_g
inline constexpr int64_t kFilmSecondSums = 3;  // of second derivatives: of grad_h, grad_g and grad_linear

struct FilmSineCpuKernels {
  void (*pack)(const FilmSineCpuCall&);
  void (*forward)(const FilmSineCpuCall&, int64_t first_tile, int64_t last_tile);
  void (*backward)(const FilmSineCpuCall&, int64_t worker, int64_t first_tile, int64_t last_tile);
  void (*second)(const FilmSineCpuCall&, int64_t worker, int64_t first_tile, int64_t last_tile);
  void (*reduce_weight)(const FilmSineCpuCall&, int64_t workers, int64_t first_output, int64_t last_output);
  void (*reduce_film)(const FilmSineCpuCall&, int64_t first_output, int64_t last_output);  // multiples of kPadding
  void (*reduce_second)(const FilmSineCpuCall&, int64_t first_output, int64_t last_output);
};

// The kernels of one level, by CpuDtype.
const FilmSineCpuKernels* film_sine_cpu_kernels_avx512bf16();
const FilmSineCpuKernels* film_sine_cpu_kernels_avx512();
const FilmSineCpuKernels* film_sine_cpu_kernels_avx2();
const FilmSineCpuKernels* film_sine_cpu_kernels_portable();

}  // namespace cips3d
