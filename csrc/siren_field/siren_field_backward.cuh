// siren_field's backward kernel: the layers again and their gradients, on the tensor cores, nothing of a point kept.
//
// Computes  gradients of points and directions, and each block's sums for the gradients of parameters, gamma and beta
// Axes      a block takes `warps` x 16 points of one image at a time; its warps own 16 points each for the layers, and
//           32 x 64 weights each for the sums over the block's points.
// Launch    launch_siren_backward(): grid = images x blocks_per_image, blocks walk over their image's points. Then the
//           kernels of common/siren_gradients.cuh.
// Traffic   points and gradients of the outputs once; activations and cosines to a tape and back (through L2), weights'
//           gradients to partial sums and back, each time once a layer and block of points.
// Numerics  as the forward; gradients as float16 of one or two parts under powers of two. Sums in a fixed order: the
//           same bits in every run.
// Limit     as the forward, and shared memory for the largest layer's operands.
#pragma once
#include "common/siren_backward.cuh"
#include "common/siren_gradients.cuh"
#include "siren_field/siren_field_forward.cuh"

namespace cips3d {

// Null: absent, or not wanted. directions: gradient of each point's direction, [B,N,3] float.
struct SirenFieldGradientArrays {
  AnyFloats features, density, points;
  float* directions;
};

// Stores the gradients of a warp's float inputs.
struct SirenVectorGradient {
  const SirenFieldArrays& arrays;
  const SirenFieldGradientArrays& gradients;
  float point_factor, direction_factor;
  int64_t image, row;

  __device__ __forceinline__ bool wanted(SirenVector kind) const {
    return (kind == SirenVector::kPoint && gradients.points.data) ||
           (kind == SirenVector::kDirection && gradients.directions);
  }
  __device__ __forceinline__ void operator()(SirenVector kind, const SirenVectors<1>& vectors) const {
    const int axis = int(threadIdx.x) % 4;
    if (axis == 3) return;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (row + r * 8 >= arrays.count) continue;
      const float value = axis == 0 ? vectors[r][0] : axis == 1 ? vectors[r][1] : vectors[r][2];
      const int64_t at = (image * arrays.count + row + r * 8) * 3 + axis;
      if (kind == SirenVector::kPoint)
        gradients.points.store(at, value * point_factor);
      else
        gradients.directions[at] = value * direction_factor;
    }
  }
};

struct SirenBackwardMemory {
  const unsigned char* packed;
  const float* scales;
  unsigned char* tapes;
  float* partials;
};

template <int Width, int Parts>
__global__ void __launch_bounds__(kSirenMostWarps* kWarpSize)
    siren_field_backward_kernel(SirenBackwardPlan plan, SirenFieldArrays arrays, SirenFieldGradientArrays gradients,
                                SirenBackwardMemory memory, int64_t blocks_per_image) {
  CIPS3D_DYNAMIC_SHARED(unsigned char, shared);
  const int64_t image = blockIdx.x / blocks_per_image, first = blockIdx.x % blocks_per_image;
  const int64_t rows = plan.warps * 16, tiles = (arrays.count + rows - 1) / rows;
  const unsigned char* packed = memory.packed + image * plan.net.packed_bytes;
  const SirenBackwardBlock block(plan, shared, memory.tapes, memory.partials);
  SirenWeights weights(plan.net, packed, shared, plan.resident, true,
                       (tiles - first + blocks_per_image - 1) / blocks_per_image);
  const float* scales = memory.scales + image * kSirenScales;
  const float top_scale = scales[kSirenScales - 1], density_scale = siren_scale(plan.net, scales, plan.net.trunk - 1);
  const float point_factor = arrays.point_scale / siren_scale(plan.net, scales, 0);
  const float direction_factor = 1 / siren_scale(plan.net, scales, plan.net.trunk);
  const int lane = int(threadIdx.x) % kWarpSize;
#pragma unroll 1
  for (int64_t tile = first; tile < tiles; tile += blocks_per_image) {
    const int64_t row = (tile * plan.warps + block.warp()) * 16 + lane / 4, image_row = image * arrays.count + row;
    const auto load = [&](SirenVector kind, SirenVectors<1>& vectors) {
#pragma unroll
      for (int r = 0; r < 2; ++r) arrays.load(kind, image, min(row + r * 8, arrays.count - 1), vectors[r]);
    };
    const auto feature_gradient = [&](int c, SirenSums<1>& sums) {
#pragma unroll
      for (int r = 0; r < 2; ++r)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int feature = c * kSirenChunk + i / 2 * 8 + lane % 4 * 2 + i % 2;
          const bool present = gradients.features.data && row + r * 8 < arrays.count && feature < arrays.feature_count;
          sums[0][i / 2][r * 2 + i % 2] =
              present ? top_scale * gradients.features.load((image_row + r * 8) * arrays.feature_count + feature) : 0;
        }
    };
    float density_gradient[2];
#pragma unroll
    for (int r = 0; r < 2; ++r)
      density_gradient[r] = gradients.density.data && row + r * 8 < arrays.count
                                ? density_scale * gradients.density.load(image_row + r * 8)
                                : 0;
    const SirenVectorGradient vector_gradient{arrays, gradients, point_factor, direction_factor, image, row};
    siren_backward_points<Width, Parts>(block, weights, packed, scales, load, feature_gradient, density_gradient,
                                        vector_gradient, tile == first);
  }
  weights.finish();
}

// Device and network of a backward; the launcher and the glue, which allocates by it, make the same one.
struct SirenBackwardLaunch {
  SirenBackwardPlan plan;
  int64_t blocks_per_image;
};

template <int Width, int Parts>
cudaError_t launch_siren_backward(const SirenBackwardLaunch& launch, const SirenFieldArrays& arrays,
                                  const SirenFieldGradientArrays& gradients, const SirenBackwardMemory& memory,
                                  int64_t images, cudaStream_t stream) {
  const SirenBackwardPlan& plan = launch.plan;
  const dim3 block(unsigned(plan.warps * kWarpSize)), grid(unsigned(images * launch.blocks_per_image));
  int blocks = 0;
  const cudaError_t error =
      allow_shared_memory(&siren_field_backward_kernel<Width, Parts>, int(block.x), size_t(plan.shared_bytes), &blocks);
  if (error) return error;
  CIPS3D_LAUNCH((siren_field_backward_kernel<Width, Parts>), grid, block, size_t(plan.shared_bytes), stream, plan,
                arrays, gradients, memory, launch.blocks_per_image);
  return launch_error();
}

}  // namespace cips3d
