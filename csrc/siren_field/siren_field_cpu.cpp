// siren_field on the CPU: allocates, runs the kernels of this machine's SIMD level on torch's threads, registers the
// ops.
#include "siren_field/siren_field_cpu.h"
#include "common/cpu_dtype.h"
#include "common/parallel.h"
#include "common/siren_cpu_memory.h"
#include "siren_field/siren_field.h"

namespace cips3d {
namespace {

const SirenFieldCpuKernels& kernels_for(const Tensor& points) {
  return CIPS3D_CPU_KERNELS_WITH_BF16(siren_field_cpu_kernels)[cpu_dtype_index(points)];
}

SirenCpuMemory memory_of(const SirenFieldCall& call, bool for_gradients) {
  return {call.network, call.parameters, call.gamma, call.beta, for_gradients};
}

SirenFieldCpuCall plain_call(const SirenFieldCall& call, const SirenCpuMemory& memory) {
  SirenFieldCpuCall plain{};
  plain.field = memory.field();
  plain.batch = call.batch;
  plain.points = call.count;
  plain.rays = call.directions ? call.directions->size(1) : 0;
  plain.points_per_direction = call.points_per_direction;
  plain.positions = data(call.points);
  plain.directions = data(call.directions);
  return plain;
}

SirenFieldOutputs siren_field_cpu(const SirenFieldCall& call) {
  const Tensor features =
      on_huge_pages(torch::stable::new_empty(call.points, {call.batch, call.count, call.network.feature.outputs}));
  const Tensor density = torch::stable::new_empty(call.points, {call.batch, call.count});
  if (density.numel() == 0) return {features, density};
  const SirenCpuMemory memory = memory_of(call, false);
  SirenFieldCpuCall plain = plain_call(call, memory);
  plain.features = data(features);
  plain.density = data(density);
  const SirenFieldCpuKernels& kernels = kernels_for(call.points);
  kernels.pack(plain);
  const int64_t tiles = call.batch * plain.tiles_per_image();
  parallel_shares(tiles, worker_count(tiles),
                  [&](int64_t, int64_t first, int64_t last) { kernels.forward(plain, first, last); });
  return {features, density};
}

SirenFieldGradients siren_field_backward_cpu(const SirenFieldCall& call, const std::optional<Tensor>& grad_features,
                                             const std::optional<Tensor>& grad_density, int64_t grad_mask) {
  const auto gradient = [&](SirenFieldGradient which, const std::optional<Tensor>& like) {
    return like && (grad_mask >> which & 1) ? std::optional<Tensor>(output_like(*like)) : std::nullopt;
  };
  const std::optional<Tensor> grad_points = gradient(kSirenGradPoints, call.points),
                              grad_parameters = gradient(kSirenGradParameters, call.parameters),
                              grad_gamma = gradient(kSirenGradGamma, call.gamma),
                              grad_beta = gradient(kSirenGradBeta, call.beta),
                              grad_directions = gradient(kSirenGradDirections, call.directions);
  const SirenFieldGradients grads{gradient_or_none(grad_points, call.points),
                                  gradient_or_none(grad_parameters, call.points),
                                  gradient_or_none(grad_gamma, call.points), gradient_or_none(grad_beta, call.points),
                                  gradient_or_none(grad_directions, call.points)};
  if (call.batch == 0 || call.count == 0) return zero_all(grads);
  SirenCpuMemory memory = memory_of(call, true);
  SirenFieldCpuCall plain = plain_call(call, memory);
  plain.grad_features = data(grad_features);
  plain.grad_density = data(grad_density);
  plain.grad_points = data(grad_points);
  plain.grad_directions = data(grad_directions);

  const int64_t tiles = call.batch * plain.tiles_per_image(), workers = worker_count(tiles);
  plain.gradients = memory.gradients(workers, call.batch, plain.tiles_per_image(), grad_points.has_value(),
                                     grad_parameters, grad_gamma, grad_beta);
  const Tensor direction_parts =
      working_memory(call.points, grad_directions ? call.batch * call.count * kSirenCoordinates : 0);
  plain.direction_parts = grad_directions ? data(direction_parts) : nullptr;

  const SirenFieldCpuKernels& kernels = kernels_for(call.points);
  kernels.pack(plain);
  parallel_shares(tiles, workers,
                  [&](int64_t worker, int64_t first, int64_t last) { kernels.backward(plain, worker, first, last); });
  if (grad_parameters) kernels.reduce_parameters(plain);
  if (grad_gamma || grad_beta) kernels.reduce_films(plain);
  if (grad_directions) kernels.reduce_directions(plain);
  return grads;
}

}  // namespace
}  // namespace cips3d

STABLE_TORCH_LIBRARY_IMPL(cips3d_ext, CPU, m) {
  m.impl("siren_field", TORCH_BOX(&cips3d::siren_field_entry<cips3d::siren_field_cpu>));
  m.impl("siren_field_backward", TORCH_BOX(&cips3d::siren_field_backward_entry<cips3d::siren_field_backward_cpu>));
}
