// Running sums and products over the lanes of a warp. All lanes call them.
#pragma once
#include "common/cuda_platform.h"

namespace cips3d {

__device__ __forceinline__ int warp_lane() { return int(threadIdx.x % kWarpSize); }

// Product of the values of lanes 0 .. lane.
template <class Num>
__device__ __forceinline__ Num warp_prefix_product(Num value) {
#pragma unroll
  for (int step = 1; step < kWarpSize; step *= 2) {
    const Num before = __shfl_up_sync(kFullWarp, value, step);
    if (warp_lane() >= step) value *= before;
  }
  return value;
}

// Sum of the values of lanes 0 .. lane.
template <class Num>
__device__ __forceinline__ Num warp_prefix_sum(Num value) {
#pragma unroll
  for (int step = 1; step < kWarpSize; step *= 2) {
    const Num before = __shfl_up_sync(kFullWarp, value, step);
    if (warp_lane() >= step) value += before;
  }
  return value;
}

// Sum of the values of lanes lane .. 31.
template <class Num>
__device__ __forceinline__ Num warp_suffix_sum(Num value) {
#pragma unroll
  for (int step = 1; step < kWarpSize; step *= 2) {
    const Num behind = __shfl_down_sync(kFullWarp, value, step);
    if (warp_lane() + step < kWarpSize) value += behind;
  }
  return value;
}

// The value of the next lane, and of `last_lane` in the last one.
template <class Num>
__device__ __forceinline__ Num from_next_lane(Num value, Num last_lane) {
  const Num next = __shfl_down_sync(kFullWarp, value, 1);
  return warp_lane() == kWarpSize - 1 ? last_lane : next;
}

}  // namespace cips3d
