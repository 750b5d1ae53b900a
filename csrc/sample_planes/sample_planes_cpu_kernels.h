// sample_planes's CPU kernels: compiled once per SIMD level from common/grid_sample_cpu_points.h.
#include "common/grid_sample_cpu_points.h"
#include "sample_planes/sample_planes_cpu.h"

namespace cips3d {

const GridSampleCpuKernels* CIPS3D_LEVEL_NAME(sample_planes_cpu_kernels)() {
  return CIPS3D_SIMD_NS::kGridSampleKernels<kPlaneAxes>;
}

}  // namespace cips3d
