// Volume rendering of one ray in one warp, backward: chunk after chunk from the last to the first, each with the
// weights that scan_chunk() gives it again.
#pragma once
#include "common/volume_render_ray.cuh"

namespace cips3d {

// Gradients of a ray's results, as far as all its intervals share them.
template <class Num>
struct SharedGradients {
  Num weight = 0;           // added to the gradient of every weight
  Num transmittance = 0;    // of T before the last interval
  DepthSlope<Num> depth{};  // (z - origin) * scale is added to the gradient of the weight of a sample at z
};

// What one chunk hands to the one before it.
template <class Num>
struct BackwardCarry {
  Num behind = 0;       // sum over the intervals behind of dL/dw w, and of dL/dT T
  Num sample_grad = 0;  // dL/dw of the first sample behind
  // What the interval at that sample gives to the gradients of its density and depth. The interval before adds to it.
  Num density_own = 0;
  Num depth_own = 0;
};

// dL/dx of the lane's interval (x = sigma delta) from the gradients of its sample's weight and of its own.
template <class T>
__device__ __forceinline__ Compute<T> optical_depth_gradient(const Ray<T>& ray, int first,
                                                             const Interval<Compute<T>>& it, Compute<T> sample_grad,
                                                             Compute<T> interval_grad,
                                                             SharedGradients<Compute<T>>& shared,
                                                             BackwardCarry<Compute<T>>& carry) {
  using Num = Compute<T>;
  const VolumeRenderOptions& o = ray.in.options;
  const int i = first + warp_lane(), intervals = int(ray.in.sizes.intervals);

  const Num next_sample_grad = from_next_lane(sample_grad, carry.sample_grad);
  carry.sample_grad = __shfl_sync(kFullWarp, sample_grad, 0);
  Num grad = o.midpoint ? Num(0.5) * (sample_grad + next_sample_grad) : sample_grad;
  grad += interval_grad;
  if (o.last_back && (intervals - 1) / kWarpSize == first / kWarpSize)  // the last weight lacks what the others took
    shared.weight -= __shfl_sync(kFullWarp, grad, (intervals - 1) % kWarpSize);
  grad += shared.weight;

  const Num share = grad * it.weight + (ray.is_last(i) ? shared.transmittance * it.transmittance : Num(0));
  const Num from_here = warp_suffix_sum(share);
  const Num behind = carry.behind + from_next_lane(from_here, Num(0));
  carry.behind += __shfl_sync(kFullWarp, from_here, 0);
  if (o.has_last_alpha && ray.is_last(i)) return 0;
  return grad * it.transmittance * it.passed - behind * passed_share(it.passed, Num(o.trans_eps));
}

}  // namespace cips3d
