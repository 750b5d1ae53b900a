// What the volume rendering kernels share: their arrays, and the warps of a grid.
#pragma once
#include "common/cuda_platform.h"
#include "volume_render/volume_render_cuda.h"

namespace cips3d {

constexpr int kVolumeRenderThreads = 256;
constexpr int kVolumeRenderWarps = kVolumeRenderThreads / kWarpSize;

__device__ __forceinline__ int64_t warp_of_grid() {
  return int64_t(blockIdx.x) * kVolumeRenderWarps + threadIdx.x / kWarpSize;
}

__device__ __forceinline__ int64_t warps_of_grid() { return int64_t(gridDim.x) * kVolumeRenderWarps; }

}  // namespace cips3d
