// The order of one ray's depths, in one warp.
#pragma once
#include "common/cuda_platform.h"
#include "common/merge_samples_math.h"

namespace cips3d {

// Place of sample i, at depth `mine`, among the ray's `samples` samples at depths depth(0), depth(1), ... by increasing
// depth, of equal depths the earlier one first. All lanes of the warp call it, each with an i of its own.
template <class Num, class Depth>
__device__ __forceinline__ int rank_along_ray(int i, Num mine, int samples, const Depth& depth) {
  int rank = 0;
  for (int first = 0; first < samples; first += kWarpSize) {
    const int j = first + int(threadIdx.x) % kWarpSize;
    const Num others = j < samples ? Num(depth(j)) : Num(0);
    const int in_chunk = min(kWarpSize, samples - first);
    for (int k = 0; k < in_chunk; ++k) {
      const Num other = __shfl_sync(kFullWarp, others, k);
      rank += first + k < i ? !lies_before(mine, other) : lies_before(other, mine);
    }
  }
  return rank;
}

}  // namespace cips3d
