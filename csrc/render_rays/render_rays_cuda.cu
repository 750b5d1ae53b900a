// Launcher of render_rays' forward.
#include <type_traits>

#include "render_rays/render_rays_forward.cuh"
#include "render_rays/render_rays_launch.cuh"

namespace cips3d {

// Of a block, if more than one ray of it fits: some hundred KB of L2.
constexpr int64_t kScratchBytes = int64_t{1} << 20;

template <class Shape>
static cudaError_t make_forward_launch(const RenderRaysCudaCall& call, const SirenPlan& plan, Shape,
                                       FieldLaunch* launch) {
  const auto kernel = &render_rays_forward_kernel<Shape::kWidth, Shape::kTiles, Shape::kParts>;
  return make_field_launch(call, plan, kernel, 0, launch);
}

cudaError_t choose_render_rays_path(RenderRaysCudaCall* call) {
  call->path = {};
  const int parts = render_rays_parts(*call);
  if (parts == 0) return cudaSuccess;
  const SirenPlan plan = make_siren_plan(call->network, parts);
  const RenderRaysSizes& sizes = call->sizes;
  call->path.cores.parts = parts;
  call->path.cores.packed_bytes = plan.packed_bytes;
  return with_siren_shape(plan, [&](auto shape) -> cudaError_t {
    FieldLaunch launch;
    if (const cudaError_t error = make_forward_launch(*call, plan, shape, &launch)) return error;
    const int64_t channels = call->network.feature.outputs;
    const int64_t fitting = kScratchBytes / (render_rays_scratch(sizes, channels, 1) * int64_t{sizeof(float)});
    const int64_t rays = choose_rays_per_group(sizes, sizes.coarse, sizes.fine, kRenderRaysRows<shape.kTiles>,
                                               std::min(kMostRaysPerGroup, fitting), launch.most_blocks_per_image);
    set_groups(call, rays, launch.most_blocks_per_image);
    call->path.scratch_floats = render_rays_scratch(sizes, channels, rays);
    return cudaSuccess;
  });
}

template <class T>
static cudaError_t forward(const RenderRaysCudaCall& call, cudaStream_t stream) {
  const SirenPlan plan = make_siren_plan(call.network, call.path.cores.parts);
  if (const cudaError_t error = fold_siren<T>(call, plan, stream)) return error;
  const RenderRaysForwardArrays arrays{make_arrays(call),
                                       any_floats(call.u, call.dtype),
                                       any_floats(call.noise_coarse, call.dtype),
                                       integration_options(call.options, false),
                                       any_floats(call.feature, call.dtype),
                                       any_floats(call.depth, call.dtype),
                                       any_floats(call.weights, call.dtype)};
  return with_siren_shape(plan, [&](auto shape) -> cudaError_t {
    FieldLaunch launch;
    if (const cudaError_t error = make_forward_launch(call, plan, shape, &launch)) return error;
    CIPS3D_LAUNCH((render_rays_forward_kernel<shape.kWidth, shape.kTiles, shape.kParts>),
                  dim3(unsigned(call.batch * call.path.blocks_per_image)), dim3(kRenderRaysThreads),
                  launch.shared_bytes, stream, plan, arrays, static_cast<const unsigned char*>(call.packed),
                  launch.resident, call.path.rays_per_group, call.path.blocks_per_image,
                  static_cast<float*>(call.scratch));
    return launch_error();
  });
}

cudaError_t launch_render_rays_forward(const RenderRaysCudaCall& call, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  CIPS3D_DISPATCH_DTYPE(call.dtype, T, if constexpr (!std::is_same_v<T, double>) error = forward<T>(call, stream));
  return error;
}

}  // namespace cips3d
