// Volume rendering, forward.
//
// Computes  feature, depth, weights, transmittance and accumulation of every ray, in one pass over the features
// Axes      R rays, S samples, C features; density, depths, noise [R,S], features [R,S,C]
// Launch    blocks of 256 threads; one warp a ray and slab of channels (ChannelLanes), in a grid-stride loop. Lanes are
//           samples for the scan along the ray, and channels of 32 / lanes samples for the weighted sum
// Traffic   every input once, every output once. Each further slab of channels (beyond 512 bytes a sample, or 128
//           channels of unaligned rows) reads the ray's densities and depths again, mostly from the cache
// Numerics  computes in Compute<T>; transmittance is a product of (exp(-x) + trans_eps) by a warp scan, alpha is
//           -expm1(-x): no difference of nearly equal numbers
// Limit     memory bandwidth
#pragma once
#include "common/volume_render_ray.cuh"
#include "volume_render/volume_render_channels.cuh"
#include "volume_render/volume_render_warps.cuh"

namespace cips3d {

// features += sum of weight_j * f_j over the chunk's samples j < count; `weight` is that of the lane's own sample,
// `row` the chunk's first row of features, `row_stride` from one row to the next.
template <class T, ChannelAccess kAccess>
__device__ __forceinline__ void add_weighted_rows(Compute<T> (&features)[ChannelLanes<T, kAccess>::kValues],
                                                  const ChannelLanes<T, kAccess>& lanes, int slab, Compute<T> weight,
                                                  const T* row, int64_t row_stride, int count) {
  using Num = Compute<T>;
  constexpr int kValues = ChannelLanes<T, kAccess>::kValues;
  for (int base = 0; base < count; base += kSamplesInFlight * lanes.samples_at_once) {
    Num values[kSamplesInFlight][kValues] = {};
#pragma unroll
    for (int k = 0; k < kSamplesInFlight; ++k) {
      const int j = base + k * lanes.samples_at_once + lanes.sample;
      if (j < count) lanes.load(values[k], row + j * row_stride, slab);
    }
#pragma unroll
    for (int k = 0; k < kSamplesInFlight; ++k) {
      const int j = base + k * lanes.samples_at_once + lanes.sample;
      const Num weight_j = __shfl_sync(kFullWarp, weight, j % kWarpSize);
      if (j >= count) continue;
#pragma unroll
      for (int v = 0; v < kValues; ++v) features[v] += weight_j * values[k][v];
    }
  }
}

template <class T, ChannelAccess kAccess>
__device__ __forceinline__ void store_feature(T* row, const ChannelLanes<T, kAccess>& lanes, int slab,
                                              Compute<T> (&features)[ChannelLanes<T, kAccess>::kValues],
                                              const VolumeRenderOptions& o, Compute<T> accumulation) {
  using Num = Compute<T>;
#pragma unroll
  for (int v = 0; v < ChannelLanes<T, kAccess>::kValues; ++v) {
    const Num white = lanes.channel(slab, v) < o.white_channels ? 1 - accumulation : Num(0);
    features[v] = Num(o.feature_scale) * (lanes.sum_over_samples(features[v]) + white) + Num(o.feature_shift);
  }
  if (lanes.sample == 0) lanes.store(row, slab, features);
}

template <class T, ChannelAccess kAccess>
__global__ void __launch_bounds__(kVolumeRenderThreads)
    volume_render_forward_kernel(const VolumeRenderInputs<T> in, const VolumeRenderResults<T> out) {
  using Num = Compute<T>;
  const ChannelLanes<T, kAccess> lanes(in.sizes.channels);
  const int slabs = lanes.slabs(), samples = int(in.sizes.samples);
  for (int64_t item = warp_of_grid(); item < in.sizes.rays * slabs; item += warps_of_grid()) {
    const Ray<T> ray(in, item / slabs);
    const int slab = int(item % slabs);
    RayCarry<Num> carry;
    Num weighted_depth = 0, features[ChannelLanes<T, kAccess>::kValues] = {};
    for (int first = 0; first < samples; first += kWarpSize) {
      const int i = first + warp_lane();
      const Interval<Num> it = scan_chunk(ray, first, carry);
      weighted_depth += it.sample_weight * it.depth;
      if (slab == 0 && i < in.sizes.intervals) out.weights[ray.index * in.sizes.intervals + i] = T(it.final_weight);
      if (slab == 0 && ray.is_last(i)) out.transmittance[ray.index] = T(it.transmittance);
      if (lanes.channels > 0)
        add_weighted_rows(features, lanes, slab, it.sample_weight,
                          in.features + ray.sample(first) * in.sizes.feature_stride, in.sizes.feature_stride,
                          min(kWarpSize, samples - first));
    }
    weighted_depth = warp_sum(weighted_depth);
    if (slab == 0 && warp_lane() == 0) {
      out.depth[ray.index] = T(ray_depth(in.options, weighted_depth, total_weight(in.options, carry.weight_sum)));
      out.accumulation[ray.index] = T(carry.weight_sum);
    }
    if (lanes.channels > 0)
      store_feature(out.feature + ray.index * lanes.channels, lanes, slab, features, in.options, carry.weight_sum);
  }
}

}  // namespace cips3d
