// Launcher of siren_field's forward. The kernels' notes are in siren_field_forward.cuh and siren_field_exact.cuh.
#include <type_traits>

#include "siren_field/siren_field_exact.cuh"
#include "siren_field/siren_field_forward.cuh"

namespace cips3d {

cudaError_t choose_siren_field_path(SirenFieldCudaCall* call) {
  set_siren_exact_path(call, 0);
  const int parts = siren_parts(*call);
  if (parts == 0 || call->batch == 0 || call->count == 0) return cudaSuccess;
  DeviceLimits limits;
  if (const cudaError_t error = device_limits(&limits)) return error;
  const SirenPlan plan = make_siren_plan(call->network, parts);
  if (SirenWeights::shared_bytes(plan, false, false) > size_t(limits.shared_bytes)) return cudaSuccess;
  call->path = {};
  call->path.cores.parts = parts;
  call->path.cores.packed_bytes = plan.packed_bytes;
  return cudaSuccess;
}

cudaError_t launch_siren_field_forward(const SirenFieldCudaCall& call, cudaStream_t stream) {
  if (call.batch == 0 || call.count == 0) return cudaSuccess;
  cudaError_t error = cudaSuccess;
  if (call.path.cores.parts == 0) {
    CIPS3D_DISPATCH_DTYPE(call.dtype, T, error = launch_siren_exact_forward<T>(call, stream));
    return error;
  }
  DeviceLimits limits;
  const SirenPlan plan = make_siren_plan(call.network, call.path.cores.parts);
  CIPS3D_DISPATCH_DTYPE(call.dtype, T,
                        if constexpr (!std::is_same_v<T, double>) error = fold_siren<T>(call, plan, stream));
  if (!error) error = device_limits(&limits);
  if (error) return error;
  return with_siren_shape(plan, [&](auto shape) {
    return launch_siren_forward<shape.kWidth, shape.kTiles, shape.kParts>(
        plan, make_arrays(call), call.batch, static_cast<const unsigned char*>(call.packed), limits, stream);
  });
}

}  // namespace cips3d
