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
#include "common/sample_pdf_ray.cuh"
#include "sample_pdf/sample_pdf_cuda.h"

namespace cips3d {

constexpr int kSamplePdfMaxWarps = 8;

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
    const T* row = weights + ray * count;
    sum_up_weights([&](int k) { return Num(row[k]); }, count, Num(options.eps), cdf);
    __syncwarp();
    const T *edges = bins + ray * sizes.bins, *at = u + ray * sizes.samples;
    for (int64_t k = lane; k < sizes.samples; k += kWarpSize)
      depths[ray * sizes.samples + k] =
          T(depth_at(cdf, count, Num(at[k]), options, [&](int i) { return Num(edges[i]); }));
  }
}

}  // namespace cips3d
