// Launcher of siren_field's backward. The kernels' notes are in common/siren_backward_kernel.cuh and
// siren_field_exact_backward.cuh.
#include <type_traits>

#include "common/cuda_segment_sum.cuh"
#include "siren_field/siren_field_backward.cuh"
#include "siren_field/siren_field_exact_backward.cuh"

namespace cips3d {

cudaError_t choose_siren_field_backward_path(SirenFieldCudaCall* call) {
  set_siren_exact_backward_path(call);
  const int parts = siren_parts(*call);
  if (parts > 0 && call->batch > 0 && call->count > 0) {
    DeviceLimits limits;
    if (const cudaError_t error = device_limits(&limits)) return error;
    const SirenTensorCores cores =
        plan_siren_backward(*call, make_siren_plan(call->network, parts), call->count, limits);
    if (cores.parts > 0) {
      call->path = {};
      call->path.cores = cores;
    }
  }
  if (call->grad_directions)
    call->path.sum_part_elements =
        std::max(call->path.sum_part_elements,
                 segment_sum_workspace(call->batch * call->rays, call->points_per_direction, kSirenCoordinates));
  return cudaSuccess;
}

template <class T>
static cudaError_t tensor_core_backward(const SirenFieldCudaCall& call, cudaStream_t stream) {
  const SirenTensorCores& cores = call.path.cores;
  const SirenPlan& net = cores.backward.net;
  const int64_t count = call.batch * call.count;
  const SirenFieldPoints points{
      make_arrays(call),
      {any_floats(call.grad_features, call.dtype), any_floats(call.grad_density, call.dtype),
       any_floats(call.grad_points, call.dtype), static_cast<float*>(call.direction_gradients)},
      call.count};
  cudaError_t error = fold_siren<T>(call, net, stream);
  if (!error)
    error = bound_siren_gradients<T>(call, net, static_cast<const T*>(call.grad_features),
                                     count * call.network.feature.outputs, static_cast<const T*>(call.grad_density),
                                     count, stream);
  if (!error) error = launch_siren_backward_points(call, cores, points, stream);
  return error ? error : launch_siren_backward_sums<T>(call, cores, stream);
}

template <class T>
static cudaError_t backward(const SirenFieldCudaCall& call, cudaStream_t stream) {
  using Real = Compute<T>;
  cudaError_t error = cudaSuccess;
  if constexpr (!std::is_same_v<T, double>)
    if (call.path.cores.parts > 0) error = tensor_core_backward<T>(call, stream);
  if (call.path.cores.parts == 0) error = launch_siren_exact_backward<T>(call, stream);
  if (error || !call.grad_directions) return error;
  const ArraySource<Real> source{static_cast<const Real*>(call.direction_gradients), call.points_per_direction,
                                 kSirenCoordinates};
  return launch_segment_sum(source, static_cast<T*>(call.grad_directions), static_cast<Real*>(call.sum_parts),
                            call.batch * call.rays, call.points_per_direction, kSirenCoordinates, 1.0, stream);
}

cudaError_t launch_siren_field_backward(const SirenFieldCudaCall& call, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  CIPS3D_DISPATCH_DTYPE(call.dtype, T, error = backward<T>(call, stream));
  return error;
}

}  // namespace cips3d
