// volume_render on CUDA tensors: outputs, launches, registration. Arguments were checked by volume_render.h.
#include <limits>

#include "common/torch_cuda.h"
#include "volume_render/volume_render.h"
#include "volume_render/volume_render_cuda.h"

namespace cips3d {

constexpr int64_t kMaxRayLength = std::numeric_limits<int>::max() / 2;  // samples and channels count in int

static VolumeRenderInputs<void> inputs_of(const VolumeRenderCall& call) {
  STD_TORCH_CHECK(call.sizes.samples <= kMaxRayLength && call.sizes.channels <= kMaxRayLength,
                  "volume_render: at most ", kMaxRayLength, " samples and channels on CUDA, got density ",
                  shape_text(call.density), " with ", call.sizes.channels, " channels");
  return {data(call.density), data(call.features), data(call.depths), data(call.noise),
          data(call.beta),    data(call.ray_norm), call.sizes,        call.options};
}

static VolumeRenderOutputs volume_render_cuda(const VolumeRenderCall& call) {
  const int64_t batch = call.batch(), rays = call.rays();
  const LaunchScope scope(call.density);
  Tensor feature = new_output(call.density, {batch, rays, call.sizes.channels});
  Tensor depth = new_output(call.density, {batch, rays});
  Tensor weights = new_output(call.density, {batch, rays, call.sizes.intervals});
  Tensor transmittance = new_output(call.density, {batch, rays});
  Tensor accumulation = new_output(call.density, {batch, rays});
  const VolumeRenderResults<void> out{feature.mutable_data_ptr(), depth.mutable_data_ptr(), weights.mutable_data_ptr(),
                                      transmittance.mutable_data_ptr(), accumulation.mutable_data_ptr()};
  check_launch("volume_render",
               launch_volume_render_forward(cuda_dtype(call.density), inputs_of(call), out, scope.stream()));
  return {feature, depth, weights, transmittance, accumulation};
}

// The gradient's tensor if it is wanted of an input that was given, else an empty one.
static Tensor gradient_of(const std::optional<Tensor>& input, int64_t grad_mask, VolumeRenderGradient gradient,
                          const Tensor& like) {
  if (!input || !wanted(grad_mask, gradient)) return no_gradient(like);
  return new_output(like, std::vector<int64_t>(input->sizes().begin(), input->sizes().end()));
}

static void* target(Tensor& gradient) { return gradient.numel() > 0 ? gradient.mutable_data_ptr() : nullptr; }

static VolumeRenderOutputs volume_render_backward_cuda(const VolumeRenderCall& call,
                                                       const VolumeRenderOutputGradients& grads, int64_t grad_mask) {
  const CudaDtype dtype = cuda_dtype(call.density);
  const int64_t max_samples = volume_render_backward_max_samples(dtype);
  STD_TORCH_CHECK(call.sizes.samples <= max_samples, "volume_render_backward: at most ", max_samples,
                  " samples a ray in this dtype on CUDA, got density ", shape_text(call.density),
                  "; use impl=\"reference\"");
  const LaunchScope scope(call.density);
  Tensor density = gradient_of(call.density, grad_mask, kGradDensity, call.density);
  Tensor features = gradient_of(call.features, grad_mask, kGradFeatures, call.density);
  Tensor depths = gradient_of(call.depths, grad_mask, kGradDepths, call.density);
  Tensor beta = gradient_of(call.beta, grad_mask, kGradBeta, call.density);
  Tensor ray_norm = gradient_of(call.ray_norm, grad_mask, kGradRayNorm, call.density);
  if (!grads.feature) torch::stable::zero_(features);  // the kernel leaves them alone
  if (call.sizes.rays == 0) torch::stable::zero_(beta);

  VolumeRenderInputGradients<void> out{target(density),  grads.feature ? target(features) : nullptr,
                                       target(depths),   target(beta),
                                       target(ray_norm), nullptr};
  Tensor partials = no_gradient(call.density);
  if (out.beta) {
    partials = new_output(call.density, {volume_render_beta_partials(call.sizes.rays)}, ScalarType::Double);
    out.beta_partials = static_cast<double*>(partials.mutable_data_ptr());
  }
  const VolumeRenderResultGradients<void> results{data(grads.feature), data(grads.depth), data(grads.weights),
                                                  data(grads.transmittance), data(grads.accumulation)};
  check_launch("volume_render_backward",
               launch_volume_render_backward(dtype, inputs_of(call), results, out, scope.stream()));
  return {density, features, depths, beta, ray_norm};
}

}  // namespace cips3d

CIPS3D_CUDA_LIBRARY_IMPL(m) {
  m.impl("volume_render", TORCH_BOX(&(cips3d::volume_render_entry<cips3d::volume_render_cuda>)));
  m.impl("volume_render_backward",
         TORCH_BOX(&(cips3d::volume_render_backward_entry<cips3d::volume_render_backward_cuda>)));
}
