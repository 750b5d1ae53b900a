// Between modfc's CPU glue (modfc_cpu.cpp, knows torch) and its kernels (modfc_cpu_kernels.h, compiled once per SIMD
// level and dtype): plain pointers and function pointers.
#pragma once
#include "common/cpu_level.h"
#include "common/cpu_tiles.h"
#include "modfc/modfc_math.h"

namespace cips3d {

// Arrays have the dtype of x except the working memory: `T` is float, or double for double; `E` is what products
// multiply (cpu_gemm.h), in memory of as many T. Null: absent or not wanted.
struct ModfcCpuCall {
  ModfcSizes sizes;
  ModfcOptions options;
  ModfcNoiseStrides noise_strides;
  bool channels_first;  // what is [B,N,.] below is [B,.,N]
  const void *x, *weight, *style, *bias, *noise, *skip, *to_rgb, *grad_y, *grad_rgb;
  void *y, *rgb, *grad_x, *grad_weight, *grad_style, *grad_bias, *grad_noise, *grad_skip, *grad_to_rgb;

  // From forward to backward. Beside d at most one of the next two; with neither, act and clamp are the identity.
  void* demodulation;  // T [B,O]: d; null without demodulation
  void* linear;        // T [B,N,O]: x W'^T before d
  uint8_t* branches;   // [B,N,O]: the pieces of act and clamp that each u is in
  const void* kept_y;  // [B,N,O]: y; null without grad_to_rgb

  void* panels;              // E, W packed for x W^T; with channels_first in rows
  void* grad_panels;         // E, W packed for grad_linear W; null if neither grad_x nor grad_style is wanted
  void* squares;             // E [O,I]: W^2
  void* square_panels;       // E, W^2 packed for d
  void* grad_square_panels;  // E, W^2 packed for the modulation's gradient through d
  void* bias_sums;           // T [tiles, padded O]: sums over a tile's points of grad_u
  void* to_rgb_sums;         // T [tiles, K, padded O]: the same of grad_rgb y
  void* demodulation_sums;   // T [segments, padded O]: sums over points of d grad_u linear; null if d has no gradient
  void* style_sums;          // T [segments, padded I]: sums over points of the modulation's gradient
  void* weight_partials;     // T [workers, weight_partial()]: each worker's share of grad_weight
  void* sample_partials;  // T [workers, weight_partial()]: the same for the sample at hand; null if `linear` is there
  void* square_partials;  // T [workers, weight_partial()]: the same through the square sums, to be multiplied by 2 W

  // With channels_first the points of a sample begin a tile.
  CIPS3D_HOST_DEVICE RowTiles tiles() const {
    return {sizes.batch, channels_first ? padded(sizes.points, kTileRows) : sizes.points};
  }
  CIPS3D_HOST_DEVICE RowTiles sample_tiles() const { return {sizes.batch, 1}; }
  CIPS3D_HOST_DEVICE int64_t weight_partial() const {
    return padded(sizes.outputs, kBlockPadding) * row_stride(sizes.inputs);
  }
};

struct ModfcCpuKernels {
  void (*pack)(const ModfcCpuCall&);
  void (*demodulate)(const ModfcCpuCall&, int64_t first_sample_tile, int64_t last_sample_tile);
  void (*forward)(const ModfcCpuCall&, int64_t first_tile, int64_t last_tile);
  // The backward in order: the points, bias and to_rgb, the samples' styles, the sums over workers.
  void (*backward)(const ModfcCpuCall&, int64_t worker, int64_t first_tile, int64_t last_tile);
  void (*reduce_tiles)(const ModfcCpuCall&, int64_t first_output, int64_t last_output);  // multiples of kPadding
  void (*backward_style)(const ModfcCpuCall&, int64_t worker, int64_t first_sample_tile, int64_t last_sample_tile);
  void (*reduce_weight)(const ModfcCpuCall&, int64_t workers, int64_t square_workers, int64_t first_output,
                        int64_t last_output);
};

// The kernels of one level, by CpuDtype.
const ModfcCpuKernels* modfc_cpu_kernels_avx512bf16();
const ModfcCpuKernels* modfc_cpu_kernels_avx512();
const ModfcCpuKernels* modfc_cpu_kernels_avx2();
const ModfcCpuKernels* modfc_cpu_kernels_portable();

}  // namespace cips3d
