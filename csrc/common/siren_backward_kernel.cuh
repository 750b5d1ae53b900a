// The backward kernel of a SIREN field, for every op with one: the layers again and their gradients, on the tensor
// cores, nothing of a point kept.
//
// Computes  gradients of points and directions, and each block's sums for the gradients of parameters, gamma and beta
// Axes      a block takes `warps` x 16 points of one image at a time; its warps own 16 points each for the layers, and
//           32 x 64 weights each for the sums over the block's points.
// Launch    launch_siren_backward_points() (siren_cuda.cuh): grid = images x blocks_per_image, blocks walk over their
//           image's points. Then the kernels of siren_gradients.cuh.
// Traffic   points and gradients of the outputs once; activations and cosines to a tape and back (through L2), weights'
//           gradients to partial sums and back, each time once a layer and block of points.
// Numerics  as the forward; gradients as float16 of one or two parts, a block's points under a power of two that a bound
//           of the next layer's gradients decides. Sums in a fixed order: the same bits in every run.
// Limit     as the forward, and shared memory for the largest layer's operands.
#pragma once
#include "common/cuda_device.h"
#include "common/siren_backward.cuh"

namespace cips3d {

struct SirenBackwardMemory {
  const unsigned char* packed;
  const float* growths;
  unsigned char* tapes;
  float* partials;
};

// Points, by value in the kernel's arguments, says where an image's points and gradients come from and go to:
//   count                                      points of an image
//   load(kind, image, point, vector)           position (scaled) or direction
//   feature_gradient(image, point, feature), density_gradient(image, point)
//   wanted(kind), store(kind, image, point, axis, value)      gradients of load's vectors
template <class Points>
struct SirenVectorGradient {
  const Points& points;
  int64_t image, row;

  __device__ __forceinline__ bool wanted(SirenVector kind) const { return points.wanted(kind); }
  // the gradients times `factor`
  __device__ __forceinline__ void operator()(SirenVector kind, const SirenVectors<1>& vectors, float factor) const {
    const int axis = int(threadIdx.x) % 4;
    if (axis == 3) return;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (row + r * 8 >= points.count) continue;
      const float value = axis == 0 ? vectors[r][0] : axis == 1 ? vectors[r][1] : vectors[r][2];
      points.store(kind, image, row + r * 8, axis, value * factor);
    }
  }
};

template <int Width, int Parts, class Points>
__global__ void __launch_bounds__(kSirenMostWarps* kWarpSize)
    siren_backward_kernel(SirenBackwardPlan plan, Points points, SirenBackwardMemory memory, int64_t blocks_per_image) {
  CIPS3D_DYNAMIC_SHARED(unsigned char, shared);
  const int64_t image = blockIdx.x / blocks_per_image, first = blockIdx.x % blocks_per_image;
  const int64_t rows = plan.warps * 16, tiles = (points.count + rows - 1) / rows;
  const unsigned char* packed = memory.packed + image * plan.net.packed_bytes;
  const SirenBackwardBlock block(plan, shared, memory.tapes, memory.partials);
  SirenWeights weights(plan.net, packed, shared, plan.resident, true,
                       (tiles - first + blocks_per_image - 1) / blocks_per_image);
  const float* growths = memory.growths + image * kSirenGrowths;
  const float top_scale = growths[kSirenGrowths - 1];
  const int lane = int(threadIdx.x) % kWarpSize;
#pragma unroll 1
  for (int64_t tile = first; tile < tiles; tile += blocks_per_image) {
    const int64_t row = (tile * plan.warps + block.warp()) * 16 + lane / 4;
    const auto load = [&](SirenVector kind, SirenVectors<1>& vectors) {
#pragma unroll
      for (int r = 0; r < 2; ++r) points.load(kind, image, min(row + r * 8, points.count - 1), vectors[r]);
    };
    const auto feature_gradient = [&](int c, SirenSums<1>& sums) {
#pragma unroll
      for (int r = 0; r < 2; ++r)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int feature = c * kSirenChunk + i / 2 * 8 + lane % 4 * 2 + i % 2;
          sums[0][i / 2][r * 2 + i % 2] =
              row + r * 8 < points.count ? top_scale * points.feature_gradient(image, row + r * 8, feature) : 0;
        }
    };
    float density_gradient[2];
#pragma unroll
    for (int r = 0; r < 2; ++r)
      density_gradient[r] = row + r * 8 < points.count ? top_scale * points.density_gradient(image, row + r * 8) : 0;
    const SirenVectorGradient<Points> vector_gradient{points, image, row};
    siren_backward_points<Width, Parts>(block, weights, packed, growths, load, feature_gradient, density_gradient,
                                        vector_gradient, tile == first);
  }
  weights.finish();
}

}  // namespace cips3d
