// Inverse transform sampling along rays.
//
// Computes  depths at the cumulative probabilities u of every ray's piecewise constant density (sample_pdf_math.h)
// Axes      P rays, W weights, K bin edges, n samples
// Launch    one warp a ray in a grid-stride loop; as many warps a block, up to 8, as its shared memory holds
//           distributions. Lanes are weights while the distribution is summed up, then samples
// Traffic   weights twice (the second time from the cache), u and depths once, the bin edges in use
// Numerics  computes in Compute<T>; the distribution is a warp scan over 32 weights at a time
// Limit     latency for small n, memory bandwidth else; W up to sample_pdf_max_weights()
#pragma once
#include "common/cuda_platform.h"
#include "sample_pdf/sample_pdf_cuda.h"

namespace cips3d {

constexpr int kSamplePdfMaxWarps = 8;

// Sum of the values of lanes 0 .. lane.
template <class Num>
__device__ __forceinline__ Num warp_prefix_sum(Num value) {
  const int lane = threadIdx.x % kWarpSize;
#pragma unroll
  for (int step = 1; step < kWarpSize; step *= 2) {
    const Num before = __shfl_up_sync(kFullWarp, value, step);
    if (lane >= step) value += before;
  }
  return value;
}

// cdf [W+1] of a ray's weights, by one warp.
template <class T>
__device__ __forceinline__ void sum_up_weights(const T* weights, int count, Compute<T> eps, Compute<T>* cdf) {
  using Num = Compute<T>;
  const int lane = threadIdx.x % kWarpSize;
  Num total = 0;
  for (int k = lane; k < count; k += kWarpSize) total += Num(weights[k]) + eps;
  total = warp_sum(total);

  if (lane == 0) cdf[0] = 0;
  Num before = 0;
  for (int first = 0; first < count; first += kWarpSize) {
    const int k = first + lane;
    const Num until = before + warp_prefix_sum(k < count ? (Num(weights[k]) + eps) / total : Num(0));
    if (k < count) cdf[k + 1] = until;
    before = __shfl_sync(kFullWarp, until, kWarpSize - 1);
  }
}

template <class T>
__global__ void __launch_bounds__(kSamplePdfMaxWarps* kWarpSize, 4)
    sample_pdf_kernel(const T* bins, const T* weights, const T* u, T* depths, const SamplePdfSizes sizes,
                      const SamplePdfOptions options) {
  using Num = Compute<T>;
  CIPS3D_DYNAMIC_SHARED(Num, distributions);  // [warps][W+1]
  const int warps = blockDim.x / kWarpSize, warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int count = int(sizes.weights);
  Num* cdf = distributions + warp * (count + 1);
  for (int64_t ray = int64_t(blockIdx.x) * warps + warp; ray < sizes.rays; ray += int64_t(gridDim.x) * warps) {
    __syncwarp();  // the ray before this one is done with `cdf`
    sum_up_weights(weights + ray * count, count, Num(options.eps), cdf);
    __syncwarp();
    const T* edges = bins + ray * sizes.bins;
    for (int64_t k = lane; k < sizes.samples; k += kWarpSize) {
      const Num at = Num(u[ray * sizes.samples + k]);
      const int index = int(search_cdf(cdf, count + 1, at, options.right));
      const int lo = max(index - 1, 0), hi = min(index, count);
      depths[ray * sizes.samples + k] =
          T(interpolate_bins(at, cdf[lo], cdf[hi], Num(edges[lo]), Num(edges[hi]), Num(options.eps)));
    }
  }
}

}  // namespace cips3d
