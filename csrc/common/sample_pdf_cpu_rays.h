// Importance sampling along rays on the CPU.
//
// Computes  sample_pdf_math.h
// Axes      bins [rays,K], weights [rays,W], u and depths [rays,n]
// Launch    each thread takes a contiguous share of the rays; working memory is one ray's cdf, bins and u
// Traffic   every array once
// Numerics  the cdf is summed in double, as torch.cumsum does on CPUs: an interval of it may be as narrow as eps, and
//           dividing by that magnifies its error
// Limit     the searches, one after the other
#pragma once
#include "common/ray_tasks.h"
#include "common/simd.h"

namespace cips3d::CIPS3D_SIMD_NS {

// `count` values as the type they are computed in; writes whole vectors to `to`.
template <class S, class T = Compute<S>>
CIPS3D_INLINE void read_line(const S* from, int64_t count, T* to) {
  for (int64_t i = 0; i < count; i += kLanes<T>) store(to + i, load_first(from + i, count - i));
}

// cdf [count + 1] of weights [count].
template <class T>
CIPS3D_INLINE void make_cdf(const T* weights, int64_t count, T eps, T* cdf) {
  double total = 0;
  for (int64_t i = 0; i < count; ++i) total += static_cast<double>(weights[i] + eps);
  double below = 0;
  cdf[0] = T(0);
  for (int64_t i = 0; i < count; ++i) {
    below += static_cast<double>(weights[i] + eps);
    cdf[i + 1] = static_cast<T>(below / total);
  }
}

template <class S>
void sample_depths(const SamplePdfTask& task, int64_t begin, int64_t end) {
  using T = Compute<S>;
  const SamplePdfSizes& sizes = task.sizes;
  const T eps = static_cast<T>(task.options.eps);
  const Scratch<T> weights(round_up(sizes.weights, kLanes<T>)), cdf(sizes.weights + 1);
  const Scratch<T> bins(round_up(sizes.bins, kLanes<T>)), u(round_up(sizes.samples, kLanes<T>));
  for (int64_t ray = begin; ray < end; ++ray) {
    read_line<S, T>(static_cast<const S*>(task.weights) + ray * sizes.weights, sizes.weights, weights);
    read_line<S, T>(static_cast<const S*>(task.bins) + ray * sizes.bins, sizes.bins, bins);
    read_line<S, T>(static_cast<const S*>(task.u) + ray * sizes.samples, sizes.samples, u);
    make_cdf<T>(weights, sizes.weights, eps, cdf);
    for (int64_t i = 0; i < sizes.samples; ++i) {
      const int64_t found = search_cdf<T>(cdf, sizes.weights + 1, u[i], task.options.right);
      const int64_t lo = max(found - 1, 0), hi = min(found, sizes.weights);
      u[i] = interpolate_bins<T>(u[i], cdf[lo], cdf[hi], bins[lo], bins[hi], eps);
    }
    S* depths = static_cast<S*>(task.depths) + ray * sizes.samples;
    for (int64_t i = 0; i < sizes.samples; i += kLanes<T>) store_first(depths + i, sizes.samples - i, load(u + i));
  }
}

}  // namespace cips3d::CIPS3D_SIMD_NS
