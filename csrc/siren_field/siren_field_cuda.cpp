// siren_field for CUDA tensors (for CPU tensors on the emulator): allocation, launch, registration. Kernels:
// siren_field_cuda.cu.
#include "siren_field/siren_field_cuda.h"

#include "common/torch_cuda.h"
#include "siren_field/siren_field.h"

namespace cips3d {

constexpr int64_t kFloatBytes = sizeof(float);  // of an element of working memory that holds bytes

static SirenFieldCudaCall make_cuda_call(const SirenFieldCall& call) {
  SirenFieldCudaCall cuda{};
  cuda.dtype = cuda_dtype(call.points);
  cuda.network = call.network;
  cuda.reduced_precision = call.reduced_precision;
  cuda.batch = call.batch;
  cuda.count = call.count;
  cuda.points_per_direction = call.points_per_direction;
  cuda.rays = call.directions ? call.directions->size(1) : 0;
  cuda.points = data(call.points);
  cuda.parameters = data(call.parameters);
  cuda.gamma = data(call.gamma);
  cuda.beta = data(call.beta);
  cuda.directions = data(call.directions);
  return cuda;
}

static SirenFieldOutputs siren_field_cuda(const SirenFieldCall& call) {
  const LaunchScope scope(call.points);
  Tensor features = new_output(call.points, {call.batch, call.count, call.network.feature.outputs});
  Tensor density = new_output(call.points, {call.batch, call.count});
  SirenFieldCudaCall cuda = make_cuda_call(call);
  cuda.features = features.mutable_data_ptr();
  cuda.density = density.mutable_data_ptr();
  check_launch("siren_field", choose_siren_field_path(&cuda));
  const Workspace packed(call.points, {call.batch, cuda.path.cores.packed_bytes / kFloatBytes}, &cuda.packed);
  const Workspace activations(call.points, {cuda.path.exact_rows, cuda.path.exact_row_elements}, &cuda.activations);
  check_launch("siren_field", launch_siren_field_forward(cuda, scope.stream()));
  return {features, density};
}

static SirenFieldGradients siren_field_backward_cuda(const SirenFieldCall& call,
                                                     const std::optional<Tensor>& grad_features,
                                                     const std::optional<Tensor>& grad_density, int64_t grad_mask) {
  constexpr const char* op = "siren_field_backward";
  const LaunchScope scope(call.points);
  SirenFieldCudaCall cuda = make_cuda_call(call);
  cuda.grad_features = data(grad_features);
  cuda.grad_density = data(grad_density);
  NewGradients gradients(call.points, grad_mask);
  Tensor grad_points = gradients.make(kSirenGradPoints, call.points, &cuda.grad_points);
  Tensor grad_parameters = gradients.make(kSirenGradParameters, call.parameters, &cuda.grad_parameters);
  Tensor grad_gamma = gradients.make(kSirenGradGamma, call.gamma, &cuda.grad_gamma);
  Tensor grad_beta = gradients.make(kSirenGradBeta, call.beta, &cuda.grad_beta);
  Tensor grad_directions = gradients.make(kSirenGradDirections, call.directions, &cuda.grad_directions);
  check_launch(op, choose_siren_field_backward_path(&cuda));

  const SirenFieldPath& path = cuda.path;
  const int64_t points_with_directions = cuda.grad_directions ? call.batch * call.count : 0;
  const Workspace packed(call.points, {call.batch, path.cores.packed_bytes / kFloatBytes}, &cuda.packed);
  const Workspace activations(call.points, {path.exact_rows, path.exact_row_elements}, &cuda.activations);
  const Workspace tapes(call.points, {path.cores.tape_bytes / kFloatBytes}, &cuda.tapes);
  const Workspace growths(call.points, {path.cores.growth_elements}, &cuda.growths);
  const Workspace partials(call.points, {path.cores.partial_elements + path.partial_elements}, &cuda.partials);
  const Workspace sums(call.points, {path.cores.sum_elements + path.sum_elements}, &cuda.sums);
  const Workspace sum_parts(call.points, {path.sum_part_elements}, &cuda.sum_parts);
  const Workspace directions(call.points, {points_with_directions, kSirenCoordinates}, &cuda.direction_gradients);
  check_launch(op, launch_siren_field_backward(cuda, scope.stream()));
  return {grad_points, grad_parameters, grad_gamma, grad_beta, grad_directions};
}

}  // namespace cips3d

CIPS3D_CUDA_LIBRARY_IMPL(m) {
  m.impl("siren_field", TORCH_BOX(&(cips3d::siren_field_entry<cips3d::siren_field_cuda>)));
  m.impl("siren_field_backward", TORCH_BOX(&(cips3d::siren_field_backward_entry<cips3d::siren_field_backward_cuda>)));
}
