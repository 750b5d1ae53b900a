// Between the glue (volume_render_cpu.cpp) and the kernels that are compiled once per SIMD level
// (volume_render_cpu_kernels.h).
#pragma once
#include "common/cpu_level.h"
#include "common/ray_tasks.h"

namespace cips3d {

// Shares of the rays given to threads are multiples of this: the most rays that any level puts in a vector.
constexpr int64_t kVolumeRenderRaysPerTask = 16;

// Each works on rays [begin, end); backward returns these rays' part of beta's gradient.
struct VolumeRenderCpuKernels {
  void (*forward[kCpuDtypes])(const VolumeRenderForwardTask&, int64_t begin, int64_t end);
  double (*backward[kCpuDtypes])(const VolumeRenderBackwardTask&, int64_t begin, int64_t end);
};

const VolumeRenderCpuKernels& volume_render_cpu_kernels_avx512();
const VolumeRenderCpuKernels& volume_render_cpu_kernels_avx2();
const VolumeRenderCpuKernels& volume_render_cpu_kernels_portable();

}  // namespace cips3d
