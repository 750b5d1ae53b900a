// siren_field on the CPU: allocates, runs the kernels of this machine's SIMD level on torch's threads, registers the
// ops.
#include "siren_field/siren_field_cpu.h"
#include "common/cpu_call.h"
#include "common/cpu_dtype.h"
#include "common/parallel.h"
#include "siren_field/siren_field.h"

namespace cips3d {
namespace {

const SirenFieldCpuKernels& kernels_for(const Tensor& points) {
  return CIPS3D_CPU_KERNELS(siren_field_cpu_kernels)[cpu_dtype_index(points)];
}

SirenFieldCpuCall plain_call(const SirenFieldCall& call) {
  SirenFieldCpuCall plain{};
  plain.field.layout = make_siren_cpu_layout(call.network);
  plain.field.parameters = data(call.parameters);
  plain.field.gamma = data(call.gamma);
  plain.field.beta = data(call.beta);
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
  SirenFieldCpuCall plain = plain_call(call);
  const Tensor packed = working_memory(call.points, plain.field.layout.packed);
  plain.field.packed = data(packed);
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
  SirenFieldCpuCall plain = plain_call(call);
  if (call.batch == 0 || call.count == 0) return zero_all(grads);
  plain.grad_features = data(grad_features);
  plain.grad_density = data(grad_density);
  plain.grad_points = data(grad_points);
  plain.grad_directions = data(grad_directions);

  const SirenCpuLayout& layout = plain.field.layout;
  const int64_t tiles = call.batch * plain.tiles_per_image(), workers = worker_count(tiles);
  SirenCpuGradients& sums = plain.gradients;
  sums.workers = workers;
  sums.batch = call.batch;
  sums.tiles_per_image = plain.tiles_per_image();
  sums.wants_weights = grad_parameters || grad_gamma;
  sums.wants_points = grad_points.has_value();
  sums.grad_parameters = data(grad_parameters);
  sums.grad_gamma = data(grad_gamma);
  sums.grad_beta = data(grad_beta);
  const Tensor packed = working_memory(call.points, layout.packed);
  const Tensor accumulators = working_memory(call.points, sums.wants_weights ? workers * 2 * layout.accumulator : 0);
  const Tensor film_sums = working_memory(call.points, (workers + call.batch) * 2 * layout.films);
  const Tensor direction_parts =
      working_memory(call.points, grad_directions ? call.batch * call.count * kSirenCoordinates : 0);
  plain.field.packed = data(packed);
  sums.accumulators = data(accumulators);
  sums.film_sums = data(film_sums);
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
