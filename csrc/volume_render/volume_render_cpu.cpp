// volume_render on the CPU: allocation, choice of kernel, threads.
#include "volume_render/volume_render_cpu.h"

#include "common/cpu_dtype.h"
#include "common/huge_pages.h"
#include "common/parallel.h"
#include "volume_render/volume_render.h"

namespace cips3d {
namespace {

const void* data(const std::optional<Tensor>& t) { return t ? t->const_data_ptr() : nullptr; }

VolumeRenderInputs inputs_of(const VolumeRenderCall& call) {
  return {call.density.const_data_ptr(),
          data(call.features),
          call.depths.const_data_ptr(),
          data(call.noise),
          data(call.beta),
          data(call.ray_norm),
          call.options,
          call.sizes};
}

template <class Body>
void for_rays(int64_t rays, int64_t workers, const Body& body) {
  const int64_t tasks = (rays + kVolumeRenderRaysPerTask - 1) / kVolumeRenderRaysPerTask;
  parallel_shares(tasks, workers, [&](int64_t worker, int64_t first, int64_t last) {
    const int64_t begin = first * kVolumeRenderRaysPerTask, end = std::min(last * kVolumeRenderRaysPerTask, rays);
    if (begin < end) body(worker, begin, end);
  });
}

int64_t workers_for(int64_t rays) {
  return worker_count((rays + kVolumeRenderRaysPerTask - 1) / kVolumeRenderRaysPerTask);
}

VolumeRenderOutputs volume_render_cpu(const VolumeRenderCall& call) {
  const int64_t batch = call.batch(), rays = call.rays();
  const auto empty = [&](std::vector<int64_t> shape) {
    return on_huge_pages(torch::stable::new_empty(call.density, shape));
  };
  const Tensor feature = empty({batch, rays, call.sizes.channels}), depth = empty({batch, rays}),
               weights = empty({batch, rays, call.sizes.intervals}), transmittance = empty({batch, rays}),
               accumulation = empty({batch, rays});
  const VolumeRenderForwardTask task{inputs_of(call),
                                     feature.mutable_data_ptr(),
                                     depth.mutable_data_ptr(),
                                     weights.mutable_data_ptr(),
                                     transmittance.mutable_data_ptr(),
                                     accumulation.mutable_data_ptr()};
  const auto kernel = CIPS3D_CPU_KERNELS(volume_render_cpu_kernels).forward[cpu_dtype_index(call.density)];
  for_rays(call.sizes.rays, workers_for(call.sizes.rays),
           [&](int64_t, int64_t begin, int64_t end) { kernel(task, begin, end); });
  return {feature, depth, weights, transmittance, accumulation};
}

VolumeRenderOutputs volume_render_backward_cpu(const VolumeRenderCall& call, const VolumeRenderOutputGradients& grads,
                                               int64_t grad_mask) {
  const auto like = [&](VolumeRenderGradient gradient, const std::optional<Tensor>& input) {
    return input && wanted(grad_mask, gradient) ? on_huge_pages(torch::stable::empty_like(*input))
                                                : no_gradient(call.density);
  };
  const Tensor grad_density = like(kGradDensity, call.density), grad_features = like(kGradFeatures, call.features),
               grad_depths = like(kGradDepths, call.depths), grad_ray_norm = like(kGradRayNorm, call.ray_norm);
  const auto target = [](const Tensor& t) { return t.numel() ? t.mutable_data_ptr() : nullptr; };
  const VolumeRenderBackwardTask task{inputs_of(call),      data(grads.feature),       data(grads.depth),
                                      data(grads.weights),  data(grads.transmittance), data(grads.accumulation),
                                      target(grad_density), target(grad_features),     target(grad_depths),
                                      target(grad_ray_norm)};
  const auto kernel = CIPS3D_CPU_KERNELS(volume_render_cpu_kernels).backward[cpu_dtype_index(call.density)];
  const int64_t workers = workers_for(call.sizes.rays);
  std::vector<double> beta_parts(static_cast<size_t>(workers), 0.0);
  for_rays(call.sizes.rays, workers, [&](int64_t worker, int64_t begin, int64_t end) {
    beta_parts[static_cast<size_t>(worker)] = kernel(task, begin, end);
  });

  Tensor grad_beta = no_gradient(call.density);
  if (call.beta && wanted(grad_mask, kGradBeta)) {
    double sum = 0;
    for (const double part : beta_parts) sum += part;
    Tensor exact = torch::stable::new_empty(*call.beta, call.beta->sizes(), ScalarType::Double);
    *static_cast<double*>(exact.mutable_data_ptr()) = sum;
    grad_beta = torch::stable::to(exact, call.beta->scalar_type());
  }
  return {grad_density, grad_features, grad_depths, grad_beta, grad_ray_norm};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(cips3d_ext, CPU, m) {
  m.impl("volume_render", TORCH_BOX((&volume_render_entry<volume_render_cpu>)));
  m.impl("volume_render_backward", TORCH_BOX((&volume_render_backward_entry<volume_render_backward_cpu>)));
}

}  // namespace cips3d
