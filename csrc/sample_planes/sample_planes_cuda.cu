// sample_planes's CUDA kernels: those of common/grid_sample_*.cuh for its axes.
#include "common/grid_sample_launch.cuh"
#include "sample_planes/sample_planes_cuda.h"

namespace cips3d {

const GridSampleCudaLaunchers& sample_planes_cuda_launchers() {
  static constexpr GridSampleCudaLaunchers launchers = grid_sample_launchers<kPlaneAxes>();
  return launchers;
}

}  // namespace cips3d
