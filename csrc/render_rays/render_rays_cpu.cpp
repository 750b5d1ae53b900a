// render_rays on the CPU: allocates, runs the kernels of this machine's SIMD level on torch's threads, registers the
// ops.
#include "render_rays/render_rays_cpu.h"

#include "common/cpu_dtype.h"
#include "common/parallel.h"
#include "common/siren_cpu_memory.h"
#include "render_rays/render_rays.h"

namespace cips3d {
namespace {

const RenderRaysCpuKernels& kernels_for(const Tensor& origins) {
  return CIPS3D_CPU_KERNELS_WITH_BF16(render_rays_cpu_kernels)[cpu_dtype_index(origins)];
}

SirenCpuMemory memory_of(const RenderRaysCall& call, bool for_gradients) {
  return {call.network, call.parameters, call.gamma, call.beta, for_gradients};
}

RenderRaysCpuCall plain_call(const RenderRaysCall& call, const SirenCpuMemory& memory, int64_t samples_together) {
  RenderRaysCpuCall plain{};
  plain.field = memory.field();
  plain.sizes = call.sizes;
  plain.options = call.options;
  plain.rays_per_block = rays_filling_a_tile(samples_together);
  plain.origins = data(call.origins);
  plain.directions = data(call.directions);
  plain.jitter = data(call.jitter);
  plain.u = data(call.u);
  plain.noise_coarse = data(call.noise_coarse);
  plain.noise = data(call.noise);
  return plain;
}

RenderRaysOutputs render_rays_cpu(const RenderRaysCall& call) {
  const RenderRaysSizes& sizes = call.sizes;
  const auto empty = [&](int64_t last) {
    return on_huge_pages(torch::stable::new_empty(call.origins, {sizes.batch, sizes.rays, last}));
  };
  const Tensor feature = empty(call.network.feature.outputs), weights = empty(sizes.samples());
  const Tensor depth = torch::stable::new_empty(call.origins, {sizes.batch, sizes.rays});
  const Tensor fine_depths = torch::stable::new_empty(call.origins, {sizes.batch, sizes.rays, sizes.fine},
                                                      computing_type(call.origins.scalar_type()));
  const RenderRaysOutputs outputs{feature, depth, weights, fine_depths};
  if (depth.numel() == 0) return outputs;
  const SirenCpuMemory memory = memory_of(call, false);
  const int64_t together = std::max(sizes.coarse, sizes.fine);  // the field's passes are apart
  RenderRaysCpuCall plain = plain_call(call, memory, together);
  plain.feature = data(feature);
  plain.depth = data(depth);
  plain.weights = data(weights);
  plain.fine_depths = data(fine_depths);
  const RenderRaysCpuKernels& kernels = kernels_for(call.origins);
  kernels.pack(plain);
  const int64_t blocks = sizes.batch * plain.blocks_per_image();
  parallel_shares(blocks, worker_count(blocks),
                  [&](int64_t, int64_t first, int64_t last) { kernels.forward(plain, first, last); });
  return outputs;
}

RenderRaysGradients render_rays_backward_cpu(const RenderRaysCall& call, const RenderRaysOutputGradients& given,
                                             int64_t grad_mask) {
  const auto gradient = [&](RenderRaysGradient which, const std::optional<Tensor>& like) {
    return like && (grad_mask >> which & 1) ? std::optional<Tensor>(output_like(*like)) : std::nullopt;
  };
  const std::optional<Tensor> grad_origins = gradient(kRaysGradOrigins, call.origins),
                              grad_directions = gradient(kRaysGradDirections, call.directions),
                              grad_parameters = gradient(kRaysGradParameters, call.parameters),
                              grad_gamma = gradient(kRaysGradGamma, call.gamma),
                              grad_beta = gradient(kRaysGradBeta, call.beta);
  const RenderRaysGradients grads{
      gradient_or_none(grad_origins, call.origins), gradient_or_none(grad_directions, call.origins),
      gradient_or_none(grad_parameters, call.origins), gradient_or_none(grad_gamma, call.origins),
      gradient_or_none(grad_beta, call.origins)};
  const RenderRaysSizes& sizes = call.sizes;
  if (sizes.batch == 0 || sizes.rays == 0) return zero_all(grads);
  SirenCpuMemory memory = memory_of(call, true);
  RenderRaysCpuCall plain = plain_call(call, memory, sizes.samples());
  plain.fine_depths = data(given.fine_depths);
  plain.grad_feature = data(given.feature);
  plain.grad_depth = data(given.depth);
  plain.grad_weights = data(given.weights);
  plain.grad_origins = data(grad_origins);
  plain.grad_directions = data(grad_directions);

  const int64_t blocks = sizes.batch * plain.blocks_per_image(), workers = worker_count(blocks);
  plain.gradients = memory.gradients(workers, sizes.batch, plain.blocks_per_image(), grad_origins || grad_directions,
                                     grad_parameters, grad_gamma, grad_beta);
  const RenderRaysCpuKernels& kernels = kernels_for(call.origins);
  kernels.pack(plain);
  parallel_shares(blocks, workers,
                  [&](int64_t worker, int64_t first, int64_t last) { kernels.backward(plain, worker, first, last); });
  if (grad_parameters) kernels.reduce_parameters(plain);
  if (grad_gamma || grad_beta) kernels.reduce_films(plain);
  return grads;
}

}  // namespace
}  // namespace cips3d

STABLE_TORCH_LIBRARY_IMPL(cips3d_ext, CPU, m) {
  m.impl("render_rays", TORCH_BOX(&cips3d::render_rays_entry<cips3d::render_rays_cpu>));
  m.impl("render_rays_backward", TORCH_BOX(&cips3d::render_rays_backward_entry<cips3d::render_rays_backward_cpu>));
}
