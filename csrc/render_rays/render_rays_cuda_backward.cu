// Launcher of render_rays' backward.
#include <type_traits>

#include "render_rays/render_rays_backward.cuh"
#include "render_rays/render_rays_launch.cuh"

namespace cips3d {

template <class Shape>
static cudaError_t make_integral_launch(const RenderRaysCudaCall& call, const SirenPlan& plan, Shape,
                                        FieldLaunch* launch) {
  const auto kernel = &render_rays_integral_kernel<Shape::kWidth, Shape::kTiles, Shape::kParts>;
  return make_field_launch(call, plan, kernel, ray_start_bytes(call.sizes.samples()), launch);
}

cudaError_t choose_render_rays_backward_path(RenderRaysCudaCall* call) {
  call->path = {};
  const int parts = render_rays_parts(*call);
  if (parts == 0) return cudaSuccess;
  DeviceLimits limits;
  if (const cudaError_t error = device_limits(&limits)) return error;
  const SirenPlan plan = make_siren_plan(call->network, parts);
  const RenderRaysSizes& sizes = call->sizes;
  call->path.cores = plan_siren_backward(*call, plan, sizes.rays * sizes.samples(), limits);
  return with_siren_shape(plan, [&](auto shape) -> cudaError_t {
    FieldLaunch launch;
    if (const cudaError_t error = make_integral_launch(*call, plan, shape, &launch)) return error;
    const int64_t rays = choose_rays_per_group(sizes, sizes.samples(), 0, kRenderRaysRows<shape.kTiles>,
                                               kMostRaysPerGroup, launch.most_blocks_per_image);
    set_groups(call, rays, launch.most_blocks_per_image);
    return cudaSuccess;
  });
}

static cudaError_t integral_backward(const RenderRaysCudaCall& call, const SirenPlan& plan, cudaStream_t stream) {
  const RenderRaysBackwardArrays arrays{make_arrays(call),
                                        any_floats(call.grad_feature, call.dtype),
                                        any_floats(call.grad_depth, call.dtype),
                                        any_floats(call.grad_weights, call.dtype),
                                        static_cast<float*>(call.depths),
                                        static_cast<float*>(call.density),
                                        static_cast<float*>(call.weights_back)};
  return with_siren_shape(plan, [&](auto shape) -> cudaError_t {
    FieldLaunch launch;
    if (const cudaError_t error = make_integral_launch(call, plan, shape, &launch)) return error;
    CIPS3D_LAUNCH((render_rays_integral_kernel<shape.kWidth, shape.kTiles, shape.kParts>),
                  dim3(unsigned(call.batch * call.path.blocks_per_image)), dim3(kRenderRaysThreads),
                  launch.shared_bytes, stream, plan, arrays, static_cast<const unsigned char*>(call.packed),
                  launch.resident, call.path.rays_per_group, call.path.blocks_per_image,
                  int(ray_start_bytes(call.sizes.samples())));
    return launch_error();
  });
}

template <class T>
static cudaError_t backward(const RenderRaysCudaCall& call, cudaStream_t stream) {
  const SirenTensorCores& cores = call.path.cores;
  const SirenPlan& plan = cores.backward.net;
  const int64_t rays = call.batch * call.sizes.rays, samples = rays * call.sizes.samples();
  const RenderRaysPoints points{make_arrays(call),
                                any_floats(call.grad_feature, call.dtype),
                                static_cast<const float*>(call.depths),
                                static_cast<const float*>(call.density),
                                static_cast<const float*>(call.weights_back),
                                static_cast<float*>(call.point_gradients),
                                static_cast<float*>(call.view_gradients),
                                call.sizes.rays * call.sizes.samples()};
  cudaError_t error = fold_siren<T>(call, plan, stream);
  if (!error) error = integral_backward(call, plan, stream);
  if (!error)  // a sample's features have at most the gradient of its ray's feature
    error = bound_siren_gradients<T>(call, plan, static_cast<const T*>(call.grad_feature),
                                     rays * call.network.feature.outputs, points.density_gradients, samples, stream);
  if (!error) error = launch_siren_backward_points(call, cores, points, stream);
  if (!error) error = launch_siren_backward_sums<T>(call, cores, stream);
  if (error || !call.point_gradients) return error;
  CIPS3D_LAUNCH((render_rays_sum_kernel), dim3(grid_size(rays * 3, kRaySumThreads)), dim3(kRaySumThreads), 0, stream,
                points, any_floats(call.grad_origins, call.dtype), any_floats(call.grad_directions, call.dtype), rays);
  return launch_error();
}

cudaError_t launch_render_rays_backward(const RenderRaysCudaCall& call, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  CIPS3D_DISPATCH_DTYPE(call.dtype, T, if constexpr (!std::is_same_v<T, double>) error = backward<T>(call, stream));
  return error;
}

}  // namespace cips3d
