// sample_volume's CUDA kernels: those of common/grid_sample_*.cuh for its axes.
#include "common/grid_sample_launch.cuh"
#include "sample_volume/sample_volume_cuda.h"

namespace cips3d {

const GridSampleCudaLaunchers& sample_volume_cuda_launchers() {
  static constexpr GridSampleCudaLaunchers launchers = grid_sample_launchers<kVolumeAxes>();
  return launchers;
}

}  // namespace cips3d
