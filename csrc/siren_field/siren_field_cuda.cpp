// siren_field for CUDA tensors (for CPU tensors on the emulator): allocation, launch, registration. Kernels:
// siren_field_cuda.cu.
#include "siren_field/siren_field_cuda.h"

#include "common/torch_cuda.h"
#include "siren_field/siren_field.h"

namespace cips3d {

static SirenFieldCudaCall make_cuda_call(const SirenFieldCall& call) {
  SirenFieldCudaCall cuda{};
  cuda.dtype = cuda_dtype(call.points);
  cuda.network = call.network;
  cuda.reduced_precision = call.reduced_precision;
  cuda.batch = call.batch;
  cuda.count = call.count;
  cuda.points_per_direction = call.points_per_direction;
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
  const Workspace packed(call.points, {call.batch, cuda.path.packed_bytes / int64_t{sizeof(float)}}, &cuda.packed);
  const Workspace activations(call.points, {cuda.path.exact_rows, cuda.path.exact_row_elements}, &cuda.activations);
  check_launch("siren_field", launch_siren_field_forward(cuda, scope.stream()));
  return {features, density};
}

}  // namespace cips3d

CIPS3D_CUDA_LIBRARY_IMPL(m) {
  m.impl("siren_field", TORCH_BOX(&(cips3d::siren_field_entry<cips3d::siren_field_cuda>)));
}
