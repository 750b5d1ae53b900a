// render_rays for CUDA tensors (for CPU tensors on the emulator): allocation, launch, registration. Kernels:
// render_rays_cuda.cu.
#include "render_rays/render_rays_cuda.h"

#include <limits>

#include "common/torch_cuda.h"
#include "render_rays/render_rays.h"

namespace cips3d {

constexpr int64_t kFloatBytes = sizeof(float);  // of an element of working memory that holds bytes

static RenderRaysCudaCall make_cuda_call(const RenderRaysCall& call) {
  STD_TORCH_CHECK(call.sizes.samples() <= kRenderRaysMostSamples, "render_rays: at most ", kRenderRaysMostSamples,
                  " samples a ray on CUDA, got ", call.sizes.samples());
  STD_TORCH_CHECK(call.sizes.batch * call.sizes.rays <= std::numeric_limits<int>::max(),
                  "render_rays: at most 2^31 - 1 rays on CUDA, got ", call.sizes.batch * call.sizes.rays);
  RenderRaysCudaCall cuda{};
  cuda.dtype = cuda_dtype(call.origins);
  cuda.network = call.network;
  cuda.reduced_precision = call.reduced_precision;
  cuda.batch = call.sizes.batch;
  cuda.parameters = data(call.parameters);
  cuda.gamma = data(call.gamma);
  cuda.beta = data(call.beta);
  cuda.sizes = call.sizes;
  cuda.options = call.options;
  cuda.origins = data(call.origins);
  cuda.directions = data(call.directions);
  cuda.jitter = data(call.jitter);
  cuda.u = data(call.u);
  cuda.noise_coarse = data(call.noise_coarse);
  cuda.noise = data(call.noise);
  return cuda;
}

static void check_path(const RenderRaysPath& path) {
  STD_TORCH_CHECK(
      path.cores.parts > 0,
      "render_rays: the CUDA kernels take float32, bfloat16 and float16 fields with sine layers of at most ",
      siren_widest_kernel(1), " channels and, in float32 at precision \"highest\", ", siren_widest_kernel(2),
      "; use impl=\"auto\"");
}

static RenderRaysOutputs render_rays_cuda(const RenderRaysCall& call) {
  constexpr const char* op = "render_rays";
  const LaunchScope scope(call.origins);
  const RenderRaysSizes& sizes = call.sizes;
  Tensor feature = new_output(call.origins, {sizes.batch, sizes.rays, call.network.feature.outputs});
  Tensor depth = new_output(call.origins, {sizes.batch, sizes.rays});
  Tensor weights = new_output(call.origins, {sizes.batch, sizes.rays, sizes.samples()});
  Tensor fine_depths = new_output(call.origins, {sizes.batch, sizes.rays, sizes.fine}, compute_dtype(call.origins));
  if (depth.numel() == 0) return {feature, depth, weights, fine_depths};
  RenderRaysCudaCall cuda = make_cuda_call(call);
  cuda.feature = feature.mutable_data_ptr();
  cuda.depth = depth.mutable_data_ptr();
  cuda.weights = weights.mutable_data_ptr();
  cuda.fine_depths = fine_depths.mutable_data_ptr();
  check_launch(op, choose_render_rays_path(&cuda));
  check_path(cuda.path);
  const RenderRaysPath& path = cuda.path;
  const Workspace packed(call.origins, {sizes.batch, path.cores.packed_bytes / kFloatBytes}, &cuda.packed);
  const Workspace scratch(call.origins, {sizes.batch * path.blocks_per_image, path.scratch_floats}, &cuda.scratch);
  check_launch(op, launch_render_rays_forward(cuda, scope.stream()));
  return {feature, depth, weights, fine_depths};
}

static RenderRaysGradients render_rays_backward_cuda(const RenderRaysCall& call, const RenderRaysOutputGradients& given,
                                                     int64_t grad_mask) {
  constexpr const char* op = "render_rays_backward";
  const LaunchScope scope(call.origins);
  const RenderRaysSizes& sizes = call.sizes;
  RenderRaysCudaCall cuda = make_cuda_call(call);
  NewGradients gradients(call.origins, grad_mask);
  RenderRaysGradients result{gradients.make(kRaysGradOrigins, call.origins, &cuda.grad_origins),
                             gradients.make(kRaysGradDirections, call.directions, &cuda.grad_directions),
                             gradients.make(kRaysGradParameters, call.parameters, &cuda.grad_parameters),
                             gradients.make(kRaysGradGamma, call.gamma, &cuda.grad_gamma),
                             gradients.make(kRaysGradBeta, call.beta, &cuda.grad_beta)};
  if (sizes.batch == 0 || sizes.rays == 0) {
    std::apply([](auto&... gradient) { (torch::stable::zero_(gradient), ...); }, result);
    return result;
  }
  cuda.fine_depths = given.fine_depths.mutable_data_ptr();
  cuda.grad_feature = data(given.feature);
  cuda.grad_depth = data(given.depth);
  cuda.grad_weights = data(given.weights);
  check_launch(op, choose_render_rays_backward_path(&cuda));
  check_path(cuda.path);

  const SirenTensorCores& cores = cuda.path.cores;
  const int64_t samples = sizes.batch * sizes.rays * sizes.samples();
  const bool points = cuda.grad_origins || cuda.grad_directions;
  const bool views = cuda.grad_directions && call.network.view_directions;
  const Workspace packed(call.origins, {sizes.batch, cores.packed_bytes / kFloatBytes}, &cuda.packed);
  const Workspace depths(call.origins, {samples}, &cuda.depths);
  const Workspace density(call.origins, {samples}, &cuda.density);
  const Workspace weights(call.origins, {samples}, &cuda.weights_back);
  const Workspace of_points(call.origins, {points ? samples : 0, kSirenCoordinates}, &cuda.point_gradients);
  const Workspace of_views(call.origins, {views ? samples : 0, kSirenCoordinates}, &cuda.view_gradients);
  const Workspace tapes(call.origins, {cores.tape_bytes / kFloatBytes}, &cuda.tapes);
  const Workspace growths(call.origins, {cores.growth_elements}, &cuda.growths);
  const Workspace partials(call.origins, {cores.partial_elements}, &cuda.partials);
  const Workspace sums(call.origins, {cores.sum_elements}, &cuda.sums);
  check_launch(op, launch_render_rays_backward(cuda, scope.stream()));
  return result;
}

}  // namespace cips3d

CIPS3D_CUDA_LIBRARY_IMPL(m) {
  m.impl("render_rays", TORCH_BOX(&(cips3d::render_rays_entry<cips3d::render_rays_cuda>)));
  m.impl("render_rays_backward", TORCH_BOX(&(cips3d::render_rays_backward_entry<cips3d::render_rays_backward_cuda>)));
}
