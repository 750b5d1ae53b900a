// Order of the depths of two sets of samples.
//
// Computes  z [P,S] increasing and order [P,S], positions in cat([z_a, z_b], 1); stable, NaN last
// Axes      P rays, Sa and Sb samples, S = Sa + Sb
// Launch    one warp a ray in a grid-stride loop; a lane counts the depths before its own, S * ceil(S / 32) comparisons
// Traffic   z_a and z_b once for S <= 32 (then every 32 samples read the ray again, from the cache), z and order once
// Numerics  depths are compared in Compute<T> and moved as they are
// Limit     the comparisons: made for tens to some hundreds of samples a ray
#pragma once
#include "common/merge_samples_ray.cuh"
#include "merge_samples/merge_samples_cuda.h"

namespace cips3d {

constexpr int kMergeThreads = 256;
constexpr int kMergeWarps = kMergeThreads / kWarpSize;

template <class T>
__global__ void __launch_bounds__(kMergeThreads)
    merge_samples_kernel(const T* z_a, const T* z_b, T* z, int64_t* order, const MergeSamplesSizes sizes) {
  using Num = Compute<T>;
  const int lane = threadIdx.x % kWarpSize;
  const int count_a = int(sizes.count_a), samples = int(sizes.count_a + sizes.count_b);
  const int64_t first_ray = int64_t(blockIdx.x) * kMergeWarps + threadIdx.x / kWarpSize;
  for (int64_t ray = first_ray; ray < sizes.rays; ray += int64_t(gridDim.x) * kMergeWarps) {
    const T* a = z_a + ray * sizes.count_a;
    const T* b = z_b + ray * sizes.count_b;
    const auto depth = [&](int j) { return j < count_a ? a[j] : b[j - count_a]; };
    for (int i = lane; i - lane < samples; i += kWarpSize) {
      const T mine = i < samples ? depth(i) : T{};
      const int rank = rank_along_ray(i, Num(mine), samples, depth);
      if (i >= samples) continue;
      z[ray * samples + rank] = mine;
      order[ray * samples + rank] = i;
    }
  }
}

}  // namespace cips3d
