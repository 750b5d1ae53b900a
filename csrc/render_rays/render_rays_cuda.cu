// Launchers of render_rays' kernels.
#include "render_rays/render_rays_cuda.h"

#include <type_traits>

#include "render_rays/render_rays_backward.cuh"
#include "render_rays/render_rays_forward.cuh"

namespace cips3d {

constexpr int64_t kMostRaysPerGroup = 256;
constexpr int64_t kScratchBytes = int64_t{1}
                                  << 20;  // of a block, if more than one ray of it fits: some hundred KB of L2

static RenderRaysArrays make_arrays(const RenderRaysCudaCall& call) {
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
static int64_t choose_rays_per_group(const RenderRaysSizes& sizes, int64_t first_pass, int64_t second_pass,
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
static cudaError_t make_field_launch(const RenderRaysCudaCall& call, const SirenPlan& plan, Kernel* kernel,
                                     int64_t more_bytes, FieldLaunch* launch) {
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

template <class Shape>
static cudaError_t make_forward_launch(const RenderRaysCudaCall& call, const SirenPlan& plan, Shape,
                                       FieldLaunch* launch) {
  const auto kernel = &render_rays_forward_kernel<Shape::kWidth, Shape::kTiles, Shape::kParts>;
  return make_field_launch(call, plan, kernel, 0, launch);
}

template <class Shape>
static cudaError_t make_integral_launch(const RenderRaysCudaCall& call, const SirenPlan& plan, Shape,
                                        FieldLaunch* launch) {
  const auto kernel = &render_rays_integral_kernel<Shape::kWidth, Shape::kTiles, Shape::kParts>;
  return make_field_launch(call, plan, kernel, ray_start_bytes(call.sizes.samples()), launch);
}

static void set_groups(RenderRaysCudaCall* call, int64_t rays_per_group, int64_t most_blocks_per_image) {
  call->path.rays_per_group = rays_per_group;
  call->path.blocks_per_image = std::min(ceil_div(call->sizes.rays, rays_per_group), most_blocks_per_image);
}

// As siren_parts(); the backward has the features in registers as well.
static int render_rays_parts(const RenderRaysCudaCall& call) {
  const int parts = siren_parts(call);
  return call.network.feature.outputs <= siren_widest_kernel(parts) ? parts : 0;
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
    error = scale_siren_gradients<T>(call, plan, static_cast<const T*>(call.grad_feature),
                                     rays * call.network.feature.outputs, points.density_gradients, samples, stream);
  if (!error) error = launch_siren_backward_points(call, cores, points, stream);
  if (!error) error = launch_siren_backward_sums<T>(call, cores, stream);
  if (error || !call.point_gradients) return error;
  CIPS3D_LAUNCH((render_rays_sum_kernel), dim3(grid_size(rays * 3, kRaySumThreads)), dim3(kRaySumThreads), 0, stream,
                points, any_floats(call.grad_origins, call.dtype), any_floats(call.grad_directions, call.dtype), rays);
  return launch_error();
}

cudaError_t launch_render_rays_forward(const RenderRaysCudaCall& call, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  CIPS3D_DISPATCH_DTYPE(call.dtype, T, if constexpr (!std::is_same_v<T, double>) error = forward<T>(call, stream));
  return error;
}

cudaError_t launch_render_rays_backward(const RenderRaysCudaCall& call, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  CIPS3D_DISPATCH_DTYPE(call.dtype, T, if constexpr (!std::is_same_v<T, double>) error = backward<T>(call, stream));
  return error;
}

}  // namespace cips3d
