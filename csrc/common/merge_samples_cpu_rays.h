// The order of two sets of samples along rays, on the CPU.
//
// Computes  order: stable argsort of cat(a, b) along each ray; merged: the depths in that order
// Axes      a [rays,Sa], b [rays,Sb], merged and order [rays,S], S = Sa + Sb
// Launch    each thread takes a contiguous share of the rays; working memory is one ray's depths and positions
// Traffic   every array once
// Numerics  depths are moved bit for bit; 16-bit depths are compared in float
// Limit     short rays: S^2 / lanes comparisons, without a branch; long rays: the branches of a merge sort
#pragma once
#include "common/ray_tasks.h"
#include "common/simd.h"

namespace cips3d::CIPS3D_SIMD_NS {

// Up to here, counting how many samples lie before each one is faster than sorting.
constexpr int64_t kCountUpTo = 128;

// order[rank of i] = i, where the rank counts the samples before i: nearer ones, and equally near ones of lower index.
// z [S] is followed by zeros up to a whole number of vectors.
template <class T>
CIPS3D_INLINE void order_by_counting(const T* z, int64_t samples, int64_t* order) {
  Mask<T> index;
  for (int i = 0; i < kLanes<T>; ++i) index[i] = i;
  for (int64_t i = 0; i < samples; i += kLanes<T>) {
    const Vec<T> here = load(z + i);
    Mask<T> rank{};
    for (int64_t j = 0; j < samples; ++j) {
      const Vec<T> other = broadcast(z[j]);
      const Mask<T> lower_index = static_cast<decltype(rank[0] + 0)>(j - i) < index;
      rank -= lower_index ? ~lies_before(here, other) : lies_before(other, here);  // a comparison that holds is -1
    }
    const int64_t count = min(kLanes<T>, samples - i);
    for (int64_t lane = 0; lane < count; ++lane) order[rank[lane]] = i + lane;
  }
}

// The same for long rays: merges runs of doubling length; `spare` has room for S positions.
template <class T>
CIPS3D_INLINE void order_by_merging(const T* z, int64_t samples, int64_t* order, int64_t* spare) {
  int64_t *from = order, *to = spare;
  for (int64_t i = 0; i < samples; ++i) from[i] = i;
  for (int64_t run = 1; run < samples; run *= 2) {
    for (int64_t first = 0; first < samples; first += 2 * run) {
      const int64_t middle = min(first + run, samples), last = min(first + 2 * run, samples);
      int64_t left = first, right = middle;
      for (int64_t k = first; k < last; ++k) {
        const bool take_right = left == middle || (right < last && lies_before(z[from[right]], z[from[left]]));
        to[k] = take_right ? from[right++] : from[left++];
      }
    }
    int64_t* const sorted = to;
    to = from;
    from = sorted;
  }
  if (from == order) return;
  for (int64_t i = 0; i < samples; ++i) order[i] = from[i];
}

template <class S>
void sort_samples(const MergeSamplesTask& task, int64_t begin, int64_t end) {
  using T = Compute<S>;
  const int64_t count_a = task.sizes.count_a, count_b = task.sizes.count_b, samples = count_a + count_b;
  const Scratch<S> both(round_up(samples, kLanes<T>));
  const Scratch<T> z(round_up(samples, kLanes<T>));
  const Scratch<int64_t> spare(samples);
  for (int64_t ray = begin; ray < end; ++ray) {
    const S* a = static_cast<const S*>(task.a) + ray * count_a;
    const S* b = static_cast<const S*>(task.b) + ray * count_b;
    for (int64_t i = 0; i < count_a; ++i) both[i] = a[i];
    for (int64_t i = 0; i < count_b; ++i) both[count_a + i] = b[i];
    for (int64_t i = 0; i < samples; i += kLanes<T>) store(z + i, load_first<S>(both + i, samples - i));
    int64_t* order = task.order + ray * samples;
    if (samples <= kCountUpTo) {
      order_by_counting<T>(z, samples, order);
    } else {
      order_by_merging<T>(z, samples, order, spare);
    }
    S* merged = static_cast<S*>(task.merged) + ray * samples;
    for (int64_t i = 0; i < samples; ++i) merged[i] = both[order[i]];
  }
}

}  // namespace cips3d::CIPS3D_SIMD_NS
