// Between sample_planes's CUDA glue and its kernels.
#pragma once
#include "common/grid_sample_cuda.h"

namespace cips3d {

const GridSampleCudaLaunchers& sample_planes_cuda_launchers();

}  // namespace cips3d
