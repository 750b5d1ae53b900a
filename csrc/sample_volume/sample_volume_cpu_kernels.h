// sample_volume's CPU kernels: compiled once per SIMD level from common/grid_sample_cpu_points.h.
#include "common/grid_sample_cpu_points.h"
#include "sample_volume/sample_volume_cpu.h"

namespace cips3d {

const GridSampleCpuKernels* CIPS3D_LEVEL_NAME(sample_volume_cpu_kernels)() {
  return CIPS3D_SIMD_NS::kGridSampleKernels<kVolumeAxes>;
}

}  // namespace cips3d
