// Between the glue (volume_render_cpu.cpp) and the kernels that are compiled once per SIMD level
// (volume_render_cpu_kernels.h).
#pragma once
#include "common/cpu_level.h"
#include "volume_render/volume_render_math.h"

namespace cips3d {

// Contiguous arrays of the call's dtype; null where an optional tensor is absent.
struct VolumeRenderInputs {
  const void *density, *features, *depths, *noise, *beta, *ray_norm;
  VolumeRenderOptions options;
  VolumeRenderSizes sizes;
};

struct VolumeRenderForwardTask {
  VolumeRenderInputs inputs;
  void *feature, *depth, *weights, *transmittance, *accumulation;
};

// Gradients of outputs are null where absent, gradients of inputs where unwanted.
struct VolumeRenderBackwardTask {
  VolumeRenderInputs inputs;
  const void *grad_feature, *grad_depth, *grad_weights, *grad_transmittance, *grad_accumulation;
  void *grad_density, *grad_features, *grad_depths, *grad_ray_norm;
};

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
