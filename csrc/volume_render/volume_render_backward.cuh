// Volume rendering, backward. Nothing but the inputs is kept from the forward pass.
//
// Computes  gradients of density (noise's is the same), features, depths, beta and ray_norm; the formulas are in
//           volume_render_math.h
// Axes      R rays, S samples, C features; n intervals
// Launch    blocks of 256 threads; one warp a ray in a grid-stride loop. First along the ray: the RayCarry at the start
//           of every 32 intervals goes to shared memory (nothing is left to do for S <= 32). Then back along the ray:
//           weights are recomputed chunk by chunk, the sum over the intervals behind is carried
// Traffic   features and their gradient once; densities and depths once for S <= 32, else twice (the second time mostly
//           from the cache). Without a gradient of density, depths, beta or ray_norm features are not read
// Numerics  computes in Compute<T>; the sum over the intervals behind is added up from the last one, not subtracted
//           from a total; nothing is divided by 1 - alpha; beta's gradient is added up in a fixed order, between warps
//           in double
// Limit     memory bandwidth; S up to volume_render_backward_max_samples()
#pragma once
#include "common/volume_render_ray_backward.cuh"
#include "volume_render/volume_render_channels.cuh"
#include "volume_render/volume_render_warps.cuh"

namespace cips3d {

// Blocks an SM is to hold: as many as need no spills, which is 128 registers a thread in float and more in double.
template <class Num>
constexpr int kBackwardBlocks = 2;
template <>
constexpr int kBackwardBlocks<double> = 1;

// Writes grad_rows[j] = grad_feature * weight_j (unless null) for the chunk's samples j < count and returns
// grad_feature . f_j (unless rows is null) of the lane's own sample; `weight` is that of the lane's own sample.
template <class T, ChannelAccess kAccess>
__device__ __forceinline__ Compute<T> differentiate_rows(const ChannelLanes<T, kAccess>& lanes, const T* grad_feature,
                                                         Compute<T> weight, const T* rows, int64_t row_stride,
                                                         T* grad_rows, int count) {
  using Num = Compute<T>;
  constexpr int kValues = ChannelLanes<T, kAccess>::kValues;
  const int at_once = lanes.samples_at_once, my_turn = warp_lane() / at_once;
  const int source_lane = warp_lane() % at_once * lanes.lanes;
  Num mine = 0;
  for (int turn = 0; turn * at_once < count; turn += kSamplesInFlight) {
    Num dot[kSamplesInFlight] = {};
    for (int slab = 0; slab < lanes.slabs(); ++slab) {
      Num grad[kValues], values[kSamplesInFlight][kValues] = {};
      lanes.load(grad, grad_feature, slab);
#pragma unroll
      for (int k = 0; k < kSamplesInFlight; ++k) {
        const int j = (turn + k) * at_once + lanes.sample;
        if (rows && j < count) lanes.load(values[k], rows + j * row_stride, slab);
      }
#pragma unroll
      for (int k = 0; k < kSamplesInFlight; ++k) {
        const int j = (turn + k) * at_once + lanes.sample;
        const Num weight_j = __shfl_sync(kFullWarp, weight, j % kWarpSize);
        Num scaled[kValues];
#pragma unroll
        for (int v = 0; v < kValues; ++v) {
          dot[k] += grad[v] * values[k][v];
          scaled[v] = grad[v] * weight_j;
        }
        if (grad_rows && j < count) lanes.store(grad_rows + int64_t(j) * lanes.channels, slab, scaled);
      }
    }
    if (!rows) continue;
#pragma unroll
    for (int k = 0; k < kSamplesInFlight; ++k) {
      const Num theirs = __shfl_sync(kFullWarp, lanes.sum_of_sample(dot[k]), source_lane);
      if (turn + k == my_turn) mine = theirs;
    }
  }
  return mine;
}

// Walks along the ray, leaves the carry of every chunk in `starts`, and returns what all intervals share.
template <class T>
__device__ __forceinline__ SharedGradients<Compute<T>> prepare_ray(const Ray<T>& ray,
                                                                   const VolumeRenderResultGradients<T>& grads,
                                                                   RayCarry<Compute<T>>* starts) {
  using Num = Compute<T>;
  const VolumeRenderOptions& o = ray.in.options;
  const int samples = int(ray.in.sizes.samples);
  const bool needs_depth = grads.depth && o.expected_depth;
  RayCarry<Num> carry;
  Num weighted_depth = 0;
  __syncwarp();  // the ray before this one is done with `starts`
  for (int first = 0; first < samples; first += kWarpSize) {
    if (warp_lane() == 0) starts[first / kWarpSize] = carry;
    if (first + kWarpSize >= samples && !needs_depth) break;
    const Interval<Num> it = scan_chunk(ray, first, carry);
    weighted_depth += it.sample_weight * it.depth;
  }
  __syncwarp();

  SharedGradients<Num> shared;
  if (grads.depth) {
    shared.depth = ray_depth_slope(o, warp_sum(weighted_depth), total_weight(o, carry.weight_sum));
    shared.depth.scale *= Num(grads.depth[ray.index]);
  }
  if (grads.transmittance) shared.transmittance = Num(grads.transmittance[ray.index]);
  if (grads.accumulation) shared.weight = Num(grads.accumulation[ray.index]);
  if (grads.feature && o.white_channels > 0) {
    Num white = 0;
    for (int64_t c = warp_lane(); c < o.white_channels; c += kWarpSize)
      white += Num(grads.feature[ray.index * ray.in.sizes.channels + c]);
    shared.weight -= Num(o.feature_scale) * warp_sum(white);
  }
  return shared;
}

// row[i + 1] = own of sample i + 1, plus what interval i gives to it; sample 0 gets its own alone.
template <class T>
__device__ __forceinline__ void store_sample_gradients(T* row, int i, int samples, Compute<T> own, Compute<T> to_next,
                                                       Compute<T>& own_behind) {
  const Compute<T> next_own = from_next_lane(own, own_behind);
  own_behind = __shfl_sync(kFullWarp, own, 0);
  if (!row) return;
  if (i + 1 < samples) row[i + 1] = T(next_own + to_next);
  if (i == 0) row[0] = T(own);
}

// One ray, from its last chunk to its first. Adds the lane's part of beta's gradient to beta_sum.
template <class T, ChannelAccess kAccess>
__device__ __forceinline__ void differentiate_ray(const Ray<T>& ray, const ChannelLanes<T, kAccess>& lanes,
                                                  const VolumeRenderResultGradients<T>& grads,
                                                  const VolumeRenderInputGradients<T>& out,
                                                  RayCarry<Compute<T>>* starts, Compute<T>& beta_sum) {
  using Num = Compute<T>;
  const VolumeRenderOptions& o = ray.in.options;
  const int samples = int(ray.in.sizes.samples);
  const bool needs_weights = out.density || out.depths || out.beta || out.ray_norm;
  SharedGradients<Num> shared = prepare_ray(ray, grads, starts);
  BackwardCarry<Num> carry;
  Num norm_sum = 0;
  for (int first = (samples - 1) / kWarpSize * kWarpSize; first >= 0; first -= kWarpSize) {
    const int i = first + warp_lane();
    RayCarry<Num> start = starts[first / kWarpSize];
    const Interval<Num> it = scan_chunk(ray, first, start);
    Num sample_grad = (it.depth - shared.depth.origin) * shared.depth.scale;
    if (grads.feature) {
      const int64_t stride = ray.in.sizes.feature_stride;
      const Num dot = differentiate_rows(
          lanes, grads.feature + ray.index * lanes.channels, Num(o.feature_scale) * it.sample_weight,
          needs_weights ? ray.in.features + ray.sample(first) * stride : nullptr, stride,
          out.features ? out.features + ray.sample(first) * lanes.channels : nullptr, min(kWarpSize, samples - first));
      sample_grad += Num(o.feature_scale) * dot;
    }
    if (!needs_weights) continue;

    const bool wanted = grads.weights && i < int(ray.in.sizes.intervals);
    const Num interval_grad = wanted ? Num(grads.weights[ray.index * ray.in.sizes.intervals + i]) : Num(0);
    const Num grad_x = optical_depth_gradient(ray, first, it, sample_grad, interval_grad, shared, carry);
    const bool constant_density = ray.is_last(i) && last_density_is_constant(o);
    const Num grad_sigma = constant_density ? Num(0) : grad_x * it.delta;
    const ActivationSlope<Num> slope = activation_slope(o.activation, it.u, ray.beta);
    beta_sum += grad_sigma * slope.beta;
    const Num grad_density = o.midpoint ? Num(0.5) * grad_sigma * slope.u : grad_sigma * slope.u;
    store_sample_gradients(out.density ? out.density + ray.sample(0) : nullptr, i, samples, grad_density,
                           o.midpoint ? grad_density : Num(0), carry.density_own);

    const Num grad_delta = grad_x * it.sigma;
    if (norm_applies(o, ray.is_appended(i))) norm_sum += grad_delta * it.length;
    const Num grad_length = o.unit_delta ? Num(0) : grad_delta * ray.scale(i);
    const Num grad_start = ray.is_appended(i) && !o.has_far ? Num(0) : grad_length;
    store_sample_gradients(out.depths ? out.depths + ray.sample(0) : nullptr, i, samples,
                           it.sample_weight * shared.depth.scale - grad_start,
                           ray.is_appended(i) ? Num(0) : grad_length, carry.depth_own);
  }
  norm_sum = warp_sum(norm_sum);
  if (out.ray_norm && warp_lane() == 0) out.ray_norm[ray.index] = T(norm_sum);
}

template <class T, ChannelAccess kAccess>
__global__ void __launch_bounds__(kVolumeRenderThreads, kBackwardBlocks<Compute<T>>)
    volume_render_backward_kernel(const VolumeRenderInputs<T> in, const VolumeRenderResultGradients<T> grads,
                                  const VolumeRenderInputGradients<T> out) {
  using Num = Compute<T>;
  CIPS3D_DYNAMIC_SHARED(RayCarry<Num>, all_starts);  // [warps][chunks]
  const int warp = threadIdx.x / kWarpSize, chunks = int((in.sizes.samples + kWarpSize - 1) / kWarpSize);
  const ChannelLanes<T, kAccess> lanes(in.sizes.channels);
  Num beta_sum = 0;
  for (int64_t index = warp_of_grid(); index < in.sizes.rays; index += warps_of_grid())
    differentiate_ray(Ray<T>(in, index), lanes, grads, out, all_starts + warp * chunks, beta_sum);
  if (!out.beta) return;

  CIPS3D_SHARED(double, warp_sums, [kVolumeRenderWarps]);
  beta_sum = warp_sum(beta_sum);
  if (warp_lane() == 0) warp_sums[warp] = double(beta_sum);
  __syncthreads();
  if (threadIdx.x != 0) return;
  double block_sum = 0;
  for (int w = 0; w < kVolumeRenderWarps; ++w) block_sum += warp_sums[w];
  out.beta_partials[blockIdx.x] = block_sum;
}

// Second stage of beta's gradient: one warp adds the blocks' sums in a fixed order.
template <class T>
__global__ void __launch_bounds__(kWarpSize) sum_beta_partials_kernel(const double* partials, int count, T* beta) {
  double sum = 0;
  for (int k = threadIdx.x; k < count; k += kWarpSize) sum += partials[k];
  sum = warp_sum(sum);
  if (threadIdx.x == 0) *beta = T(Compute<T>(sum));
}

}  // namespace cips3d
