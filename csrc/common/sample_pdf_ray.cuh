// Inverse transform sampling of one ray in one warp.
#pragma once
#include "common/cuda_warp_scan.cuh"
#include "common/sample_pdf_math.h"

namespace cips3d {

// cdf [count + 1] of a ray's weights weight(0) .. weight(count - 1), by one warp. A __syncwarp() must follow.
template <class Num, class Weight>
__device__ __forceinline__ void sum_up_weights(const Weight& weight, int count, Num eps, Num* cdf) {
  Num total = 0;
  for (int k = warp_lane(); k < count; k += kWarpSize) total += weight(k) + eps;
  total = warp_sum(total);

  if (warp_lane() == 0) cdf[0] = 0;
  Num before = 0;
  for (int first = 0; first < count; first += kWarpSize) {
    const int k = first + warp_lane();
    const Num until = before + warp_prefix_sum(k < count ? (weight(k) + eps) / total : Num(0));
    if (k < count) cdf[k + 1] = until;
    before = __shfl_sync(kFullWarp, until, kWarpSize - 1);
  }
}

// The depth at u of the distribution `cdf` [count + 1] over the intervals between edge(0) .. edge(count).
template <class Num, class Edge>
__device__ __forceinline__ Num depth_at(const Num* cdf, int count, Num u, const SamplePdfOptions& options,
                                        const Edge& edge) {
  const int index = int(search_cdf(cdf, count + 1, u, options.right));
  const int lo = max(index - 1, 0), hi = min(index, count);
  return interpolate_bins(u, cdf[lo], cdf[hi], Num(edge(lo)), Num(edge(hi)), Num(options.eps));
}

}  // namespace cips3d
