// Volume rendering of one ray in one warp, forward: lane l holds sample and interval `first + l` of a chunk
// of 32. Chunks follow each other through a RayCarry, so a ray may have any number of samples.
#pragma once
#include "common/cuda_platform.h"
#include "common/cuda_warp_scan.cuh"
#include "common/volume_render_inputs.h"

namespace cips3d {

// What one chunk hands to the next.
template <class Num>
struct RayCarry {
  Num transmittance = 1;  // before the next chunk's first interval
  Num weight_sum = 0;     // of the intervals so far, without last_back
  Num last_weight = 0;    // of the interval before the next chunk's first one, with last_back
};

// Interval i of a ray and the sample at its start. All zero beyond the last interval, but for the sample's own entries.
template <class Num>
struct Interval {
  Num u = 0;              // argument of the activation
  Num sigma = 0;          // density
  Num length = 0;         // before the ray norm
  Num delta = 0;          // after it
  Num passed = 0;         // exp(-sigma delta)
  Num alpha = 0;          // what it absorbs
  Num transmittance = 0;  // what arrives
  Num weight = 0;         // alpha * transmittance
  Num depth = 0;          // of the sample
  Num final_weight = 0;   // weight with last_back
  Num sample_weight = 0;  // weight of the sample: final_weight, or with midpoint the mean over its two intervals
};

template <class T>
struct Ray {
  using Num = Compute<T>;
  const VolumeRenderInputs<T>& in;
  int64_t index;
  Num norm, beta;

  __device__ __forceinline__ Ray(const VolumeRenderInputs<T>& in, int64_t index)
      : in(in),
        index(index),
        norm(in.ray_norm ? Num(in.ray_norm[index]) : Num(1)),
        beta(in.beta ? Num(in.beta[0]) : Num(in.options.beta)) {}

  __device__ __forceinline__ int64_t sample(int i) const { return index * in.sizes.samples + i; }
  __device__ __forceinline__ bool is_last(int i) const { return i == in.sizes.intervals - 1; }
  __device__ __forceinline__ bool is_appended(int i) const { return !in.options.midpoint && is_last(i); }
  __device__ __forceinline__ Num scale(int i) const { return norm_applies(in.options, is_appended(i)) ? norm : Num(1); }

  __device__ __forceinline__ Num noisy_density(int i) const {
    const Num density = Num(in.density[sample(i)]);
    return in.noise ? density + Num(in.noise[sample(i)]) : density;
  }

  // Interval i without what depends on the intervals before it.
  __device__ __forceinline__ Interval<Num> interval(int i) const {
    const VolumeRenderOptions& o = in.options;
    Interval<Num> it;
    if (i < in.sizes.samples) it.depth = Num(in.depths[sample(i)]);
    if (i >= in.sizes.intervals) return it;
    const Num next_depth = is_appended(i) ? it.depth : Num(in.depths[sample(i + 1)]);
    const Num density = noisy_density(i);
    it.u = (o.midpoint ? Num(0.5) * (density + noisy_density(i + 1)) : density) + Num(o.shift);
    it.sigma = activate(o.activation, it.u, beta);
    it.length = interval_length(o, is_appended(i), it.depth, next_depth);
    it.delta = it.length * scale(i);
    const Absorption<Num> absorption = absorb(it.sigma * it.delta);
    it.passed = absorption.passed;
    it.alpha = o.has_last_alpha && is_last(i) ? Num(o.last_alpha) : absorption.alpha;
    return it;
  }
};

// The lane's interval of the chunk that starts at `first`; `carry` moves on behind the chunk. The same carry gives the
// same bits again. All lanes of the warp call it.
template <class T>
__device__ __forceinline__ Interval<Compute<T>> scan_chunk(const Ray<T>& ray, int first, RayCarry<Compute<T>>& carry) {
  using Num = Compute<T>;
  const VolumeRenderOptions& o = ray.in.options;
  const int i = first + warp_lane();
  Interval<Num> it = ray.interval(i);

  const Num kept = i < ray.in.sizes.intervals ? it.passed + Num(o.trans_eps) : Num(1);
  const Num kept_until = warp_prefix_product(kept);
  const Num kept_before = __shfl_up_sync(kFullWarp, kept_until, 1);
  it.transmittance = carry.transmittance * (warp_lane() == 0 ? Num(1) : kept_before);
  carry.transmittance *= __shfl_sync(kFullWarp, kept_until, kWarpSize - 1);

  it.weight = it.alpha * it.transmittance;
  carry.weight_sum += warp_sum(it.weight);  // complete in the chunk of the last interval: behind it all weights are 0
  it.final_weight = o.last_back && ray.is_last(i) ? it.weight + (1 - carry.weight_sum) : it.weight;

  it.sample_weight = it.final_weight;
  if (o.midpoint) {
    const Num before = __shfl_up_sync(kFullWarp, it.final_weight, 1);
    it.sample_weight = Num(0.5) * (it.final_weight + (warp_lane() == 0 ? carry.last_weight : before));
    carry.last_weight = __shfl_sync(kFullWarp, it.final_weight, kWarpSize - 1);
  }
  return it;
}

// Sum of all weights, with last_back.
template <class Num>
__device__ __forceinline__ Num total_weight(const VolumeRenderOptions& o, Num weight_sum) {
  return o.last_back ? weight_sum + (1 - weight_sum) : weight_sum;
}

}  // namespace cips3d
