// Between the CPU glue of sample_planes and sample_volume (grid_sample_cpu_call.h) and their kernels
// (grid_sample_cpu_points.h, compiled once per SIMD level and dtype): plain pointers and function pointers.
#pragma once
#include "common/cpu_level.h"
#include "common/cpu_tiles.h"
#include "common/grid_sample_math.h"

namespace cips3d {

inline constexpr int64_t kRowPadding = 16;     // numbers; a multiple of every level's vectors of floats and doubles
inline constexpr int64_t kSliceChannels = 32;  // that one pass over the points adds up: a row is two cache lines

// Arrays of the call's dtype but the points and the sums, which are `T`: float, or double for double.
//
// A grid [C,texels] has its channels far apart, so points read it from working memory: rows of channels, one a texel,
// of one sample's grids at a time. Gradients of grids are summed in such rows too, a slice of channels at a time.
struct GridSampleCpuCall {
  GridSizes sizes;
  GridOptions options;
  const void *grids, *points, *grad;
  void *output, *grad_grids, *grad_points;
  void* rows;  // [P, padded texels, padded C]
  void* sums;  // T [workers, padded texels, slice()]

  CIPS3D_HOST_DEVICE int64_t padded_texels() const { return padded(sizes.texels(), kRowPadding); }
  CIPS3D_HOST_DEVICE int64_t row() const { return padded(sizes.channels, kRowPadding); }
  CIPS3D_HOST_DEVICE int64_t slice() const { return row() < kSliceChannels ? row() : kSliceChannels; }
  CIPS3D_HOST_DEVICE int64_t slices() const { return (sizes.channels + slice() - 1) / slice(); }
  // [B,P,slices], each with sums of its own: the order of no sum depends on the number of threads.
  CIPS3D_HOST_DEVICE int64_t scatter_tasks() const { return sizes.batch * sizes.grids * slices(); }
};

inline constexpr int64_t kBlockTexels = 64;   // that stage() turns at a time
inline constexpr int64_t kPointsAtOnce = 16;  // a multiple of every level's vectors

struct GridSampleCpuKernels {
  // Blocks of kBlockTexels of all grids of sample b, to rows.
  void (*stage)(const GridSampleCpuCall&, int64_t b, int64_t first_block, int64_t last_block);
  // Blocks of kPointsAtOnce points of sample b, from rows.
  void (*sample)(const GridSampleCpuCall&, int64_t b, int64_t first_block, int64_t last_block);
  void (*point_gradients)(const GridSampleCpuCall&, int64_t b, int64_t first_block, int64_t last_block);
  // Gradients of grids: tasks of scatter_tasks().
  void (*grid_gradients)(const GridSampleCpuCall&, int64_t worker, int64_t first_task, int64_t last_task);
};

}  // namespace cips3d
