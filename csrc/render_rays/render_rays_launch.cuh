// What the launchers of render_rays' forward and backward share: the arrays of a call, and how blocks share its rays.
#pragma once
#include <algorithm>

#include "render_rays/render_rays_cuda.h"
#include "render_rays/render_rays_group.cuh"

namespace cips3d {

constexpr int64_t kMostRaysPerGroup = 256;

inline RenderRaysArrays make_arrays(const RenderRaysCudaCall& call) {
  return {any_floats(call.origins, call.dtype),
          any_floats(call.directions, call.dtype),
          any_floats(call.parameters, call.dtype),
          any_floats(call.jitter, call.dtype),
          any_floats(call.noise, call.dtype),
          static_cast<float*>(call.fine_depths),
          call.sizes,
          float(call.options.near),
          float(call.options.far),
          integration_options(call.options, true),
          call.network.feature.outputs,
          float(call.network.point_scale)};
}

// Rays that a block takes at a time, such that the device is done soonest: few tiles of `rows` samples that are not
// full, few blocks that wait for others.
inline int64_t choose_rays_per_group(const RenderRaysSizes& sizes, int64_t first_pass, int64_t second_pass,
                                     int64_t rows, int64_t most, int64_t blocks_per_image) {
  int64_t best = 1, best_cost = 0;
  for (int64_t rays = 1; rays <= std::min(most, sizes.rays); ++rays) {
    const int64_t waves = ceil_div(ceil_div(sizes.rays, rays), blocks_per_image);
    const int64_t cost = waves * (field_tiles(rays * first_pass, rows) + field_tiles(rays * second_pass, rows));
    if (best_cost == 0 || cost < best_cost) best = rays, best_cost = cost;
  }
  return best;
}

// How a kernel that evaluates the field is launched: its weights resident or not, and as many blocks as the device
// holds.
struct FieldLaunch {
  SirenPlan plan;
  bool resident;
  size_t shared_bytes;
  int64_t most_blocks_per_image;
};

// `more_bytes` of shared memory are for other things than the weights.
template <class Kernel>
cudaError_t make_field_launch(const RenderRaysCudaCall& call, const SirenPlan& plan, Kernel* kernel, int64_t more_bytes,
                              FieldLaunch* launch) {
  DeviceLimits limits;
  if (const cudaError_t error = device_limits(&limits)) return error;
  const auto bytes = [&](bool resident) {
    return SirenWeights::shared_bytes(plan, resident, false) + size_t(more_bytes);
  };
  launch->plan = plan;
  launch->resident = bytes(true) <= size_t(limits.shared_bytes);
  launch->shared_bytes = bytes(launch->resident);
  int blocks = 0;
  const cudaError_t error = allow_shared_memory(kernel, kRenderRaysThreads, launch->shared_bytes, &blocks);
  launch->most_blocks_per_image = std::max<int64_t>(1, int64_t(blocks) * limits.multiprocessors / call.batch);
  return error;
}

inline void set_groups(RenderRaysCudaCall* call, int64_t rays_per_group, int64_t most_blocks_per_image) {
  call->path.rays_per_group = rays_per_group;
  call->path.blocks_per_image = std::min(ceil_div(call->sizes.rays, rays_per_group), most_blocks_per_image);
}

// As siren_parts(); the backward has the features in registers as well.
inline int render_rays_parts(const RenderRaysCudaCall& call) {
  const int parts = siren_parts(call);
  return call.network.feature.outputs <= siren_widest_kernel(parts) ? parts : 0;
}

}  // namespace cips3d
