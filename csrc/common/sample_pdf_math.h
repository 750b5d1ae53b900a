// Inverse transform sampling of one ray's piecewise constant density, as scalar math for host and device.
//
//   pdf_i = (weight_i + eps) / sum_j (weight_j + eps),  cdf_0 = 0, cdf_k = pdf_0 + ... + pdf_{k-1}       (W weights, W
//   + 1 entries) k = number of cdf entries < u (side left) or <= u (side right);  lo = max(k - 1, 0), hi = min(k, W)
//   depth = bins[lo] + (u - cdf[lo]) / width * (bins[hi] - bins[lo]),  width = cdf[hi] - cdf[lo], or 1 where that is <
//   eps
#pragma once
#include <cstdint>

#include "common/host_device.h"

namespace cips3d {

// [rays] rays: bins [P,K], weights [P,W], u [P,n] -> depths [P,n]; K >= W + 1, later bins are never sampled.
struct SamplePdfSizes {
  int64_t rays;
  int64_t bins;
  int64_t weights;
  int64_t samples;
};

struct SamplePdfOptions {
  double eps;
  bool right;
};

// torch.searchsorted over the sorted `cdf` [count]. A NaN is placed after everything.
template <class Num>
CIPS3D_HOST_DEVICE int64_t search_cdf(const Num* cdf, int64_t count, Num u, bool right) {
  int64_t first = 0, last = count;
  while (first < last) {
    const int64_t middle = (first + last) / 2;
    const bool before = right ? !(cdf[middle] > u) : !(cdf[middle] >= u);
    if (before) {
      first = middle + 1;
    } else {
      last = middle;
    }
  }
  return first;
}

template <class Num>
CIPS3D_HOST_DEVICE Num interpolate_bins(Num u, Num cdf_lo, Num cdf_hi, Num bin_lo, Num bin_hi, Num eps) {
  const Num width = cdf_hi - cdf_lo;
  return bin_lo + (u - cdf_lo) / (width < eps ? Num(1) : width) * (bin_hi - bin_lo);
}

}  // namespace cips3d
