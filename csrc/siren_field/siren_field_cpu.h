// Between siren_field's CPU glue (siren_field_cpu.cpp, knows torch) and its kernels (siren_field_cpu_kernels.h,
// compiled once per SIMD level and dtype): plain pointers and function pointers.
#pragma once
#include "common/cpu_level.h"
#include "common/siren_cpu.h"

namespace cips3d {

// Arrays have the dtype of points. Null: absent or not wanted.
struct SirenFieldCpuCall {
  SirenCpuField field;
  SirenCpuGradients gradients;
  int64_t batch, points, rays, points_per_direction;  // rays: R, 0 without directions
  const void *positions, *directions, *grad_features, *grad_density;
  void *features, *density, *grad_points, *grad_directions;
  void* direction_parts;  // T [B,N,3]: each point's share of its direction's gradient

  CIPS3D_HOST_DEVICE int64_t tiles_per_image() const { return (points + kSirenTileRows - 1) / kSirenTileRows; }
};

struct SirenFieldCpuKernels {
  void (*pack)(const SirenFieldCpuCall&);
  void (*forward)(const SirenFieldCpuCall&, int64_t first_tile, int64_t last_tile);
  void (*backward)(const SirenFieldCpuCall&, int64_t worker, int64_t first_tile, int64_t last_tile);
  void (*reduce_parameters)(const SirenFieldCpuCall&);
  void (*reduce_films)(const SirenFieldCpuCall&);
  void (*reduce_directions)(const SirenFieldCpuCall&);
};

// The kernels of one level, by CpuDtype.
const SirenFieldCpuKernels* siren_field_cpu_kernels_avx512bf16();
const SirenFieldCpuKernels* siren_field_cpu_kernels_avx512();
const SirenFieldCpuKernels* siren_field_cpu_kernels_avx2();
const SirenFieldCpuKernels* siren_field_cpu_kernels_portable();

}  // namespace cips3d
