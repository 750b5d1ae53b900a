// siren_field's forward kernel: a whole field on the tensor cores, nothing but points and outputs in memory.
//
// Computes  density and features of points [B,N,3]: layers as in common/siren_plan.h
// Axes      warps own Tiles x 16 points; a block's warps belong to one image.
// Launch    launch_siren_forward(): 256 threads; grid = images x blocks_per_image, blocks walk over their image's tiles
//           of 8 warps. Shared memory: all packed weights if they fit, else three pieces of them.
// Traffic   12 B in and 4 (C + 1) B out a point (float); weights once a block, or once a tile (from L2) if they do not
//           fit.
// Numerics  first layer, direction inputs and density head in float; products of float16 operands, one part (2^-12 of
//           each operand) or two parts (2^-22), accumulated in float; sin by the fast instruction, with two parts after
//           an argument reduction. The same bits in every run.
// Limit     sine layers of at most 256 channels (128 with two parts: registers).
#pragma once
#include "siren_field/siren_field_points.cuh"

namespace cips3d {

constexpr int kSirenForwardWarps = 8, kSirenForwardThreads = kSirenForwardWarps * kWarpSize;

template <int Width, int Tiles, int Parts>
__global__ void __launch_bounds__(kSirenForwardThreads)
    siren_field_forward_kernel(SirenPlan plan, SirenFieldArrays arrays, const unsigned char* packed, bool resident,
                               int64_t blocks_per_image) {
  CIPS3D_DYNAMIC_SHARED(unsigned char, shared);
  constexpr int kRows = Tiles * 16;
  const int64_t image = blockIdx.x / blocks_per_image, first = blockIdx.x % blocks_per_image;
  const int64_t tiles = (arrays.count + kSirenForwardWarps * kRows - 1) / (kSirenForwardWarps * kRows);
  const int64_t tiles_of_block = (tiles - first + blocks_per_image - 1) / blocks_per_image;
  SirenWeights weights(plan, packed + image * plan.packed_bytes, shared, resident, false, tiles_of_block);
  const float density_bias = arrays.parameters.load(plan.density_bias);
  const int lane = int(threadIdx.x) % kWarpSize, warp = int(threadIdx.x) / kWarpSize;
#pragma unroll 1
  for (int64_t tile = first; tile < tiles; tile += blocks_per_image) {
    const int64_t row = (tile * kSirenForwardWarps + warp) * kRows + lane / 4;
    const auto load = [&](SirenVector kind, SirenVectors<Tiles>& vectors) {
#pragma unroll
      for (int r = 0; r < kSirenRows<Tiles>; ++r)
        arrays.load(kind, image, min(row + r * 8, arrays.count - 1), vectors[r]);
    };
    const auto store = [&](int c, const SirenSums<Tiles>& sums) {
#pragma unroll
      for (int r = 0; r < kSirenRows<Tiles>; ++r)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int feature = c * kSirenChunk + i / 2 * 8 + lane % 4 * 2 + i % 2;
          if (row + r * 8 < arrays.count && feature < arrays.feature_count)
            arrays.features.store((image * arrays.count + row + r * 8) * arrays.feature_count + feature,
                                  sums[r / 2][i / 2][r % 2 * 2 + i % 2]);
        }
    };
    float density[kSirenRows<Tiles>];
    SirenNextInRegisters<Width, Tiles, Parts> next;
    siren_field_of_warp<Width, Tiles, Parts>(plan, weights, next, load, density, store);
#pragma unroll
    for (int r = 0; r < kSirenRows<Tiles>; ++r)
      if (lane % 4 == r % 4 && row + r * 8 < arrays.count)
        arrays.density.store(image * arrays.count + row + r * 8, density[r] + density_bias);
  }
  weights.finish();
}

template <int Width, int Tiles, int Parts>
cudaError_t launch_siren_forward(const SirenPlan& plan, const SirenFieldArrays& arrays, int64_t images,
                                 const unsigned char* packed, const DeviceLimits& limits, cudaStream_t stream) {
  const auto kernel = &siren_field_forward_kernel<Width, Tiles, Parts>;
  const bool resident = SirenWeights::shared_bytes(plan, true, false) <= size_t(limits.shared_bytes);
  const size_t shared_bytes = SirenWeights::shared_bytes(plan, resident, false);
  int blocks = 0;
  if (const cudaError_t error = allow_shared_memory(kernel, kSirenForwardThreads, shared_bytes, &blocks)) return error;
  const int64_t tiles = ceil_div(arrays.count, kSirenForwardWarps * Tiles * 16);
  const int64_t per_image = siren_blocks_per_image(images, tiles, int64_t(blocks) * limits.multiprocessors);
  CIPS3D_LAUNCH((siren_field_forward_kernel<Width, Tiles, Parts>), dim3(unsigned(images * per_image)),
                dim3(kSirenForwardThreads), shared_bytes, stream, plan, arrays, packed, resident, per_image);
  return launch_error();
}

}  // namespace cips3d
