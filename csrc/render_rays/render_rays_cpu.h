// Between render_rays' CPU glue (render_rays_cpu.cpp, knows torch) and its kernels (render_rays_cpu_kernels.h, compiled
// once per SIMD level and dtype): plain pointers and function pointers.
#pragma once
#include "common/cpu_level.h"
#include "common/siren_cpu.h"
#include "render_rays/render_rays_math.h"

namespace cips3d {

// Arrays have the dtype of origins, fine_depths `T` (float, or double for double). Null: absent or not wanted.
struct RenderRaysCpuCall {
  SirenCpuField field;
  SirenCpuGradients gradients;
  RenderRaysSizes sizes;
  RenderRaysOptions options;
  int64_t rays_per_block;
  const void *origins, *directions, *jitter, *u, *noise_coarse, *noise;
  void *feature, *depth, *weights, *fine_depths;
  const void *grad_feature, *grad_depth, *grad_weights;
  void *grad_origins, *grad_directions;

  CIPS3D_HOST_DEVICE int64_t channels() const { return field.layout.net.feature.outputs; }
  CIPS3D_HOST_DEVICE int64_t blocks_per_image() const { return (sizes.rays + rays_per_block - 1) / rays_per_block; }
};

// As many whole rays as fill a tile of the field with `samples` samples each; at least one.
inline int64_t rays_filling_a_tile(int64_t samples) { return samples < kSirenTileRows ? kSirenTileRows / samples : 1; }

// A block is up to rays_per_block rays of one image; blocks are numbered image by image.
struct RenderRaysCpuKernels {
  void (*pack)(const RenderRaysCpuCall&);
  void (*forward)(const RenderRaysCpuCall&, int64_t first_block, int64_t last_block);
  void (*backward)(const RenderRaysCpuCall&, int64_t worker, int64_t first_block, int64_t last_block);
  void (*reduce_parameters)(const RenderRaysCpuCall&);
  void (*reduce_films)(const RenderRaysCpuCall&);
};

// The kernels of one level, by CpuDtype.
const RenderRaysCpuKernels* render_rays_cpu_kernels_avx512bf16();
const RenderRaysCpuKernels* render_rays_cpu_kernels_avx512();
const RenderRaysCpuKernels* render_rays_cpu_kernels_avx2();
const RenderRaysCpuKernels* render_rays_cpu_kernels_portable();

}  // namespace cips3d
