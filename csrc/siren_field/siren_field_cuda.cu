// Launchers of siren_field's kernels. The kernels' notes are in siren_field_forward.cuh.
#include "siren_field/siren_field_cuda.h"

#include <type_traits>

#include "siren_field/siren_field_exact.cuh"
#include "siren_field/siren_field_forward.cuh"

namespace cips3d {

template <class T>
static SirenParameters<T> make_parameters(const SirenFieldCudaCall& call) {
  const SirenNetwork& network = call.network;
  return {static_cast<const T*>(call.parameters),
          static_cast<const T*>(call.gamma),
          static_cast<const T*>(call.beta),
          Compute<T>(network.gamma_scale),
          Compute<T>(network.gamma_offset),
          Compute<T>(network.beta_scale),
          network.films};
}

template <class T>
static cudaError_t fold(const SirenFieldCudaCall& call, const SirenPlan& plan, cudaStream_t stream) {
  auto* packed = static_cast<unsigned char*>(call.packed);
  return launch_siren_fold(plan, make_parameters<T>(call), call.batch, packed, stream);
}

// Calls run(slice) for all points, some of one image at a time.
template <class T, class Run>
static cudaError_t for_each_slice(const SirenFieldCudaCall& call, const Run& run) {
  const SirenNetwork& net = call.network;
  for (int64_t image = 0; image < call.batch; ++image)
    for (int64_t first = 0; first < call.count; first += call.path.exact_rows) {
      const int64_t rows = std::min(call.path.exact_rows, call.count - first);
      SirenSlice<T> slice{call, image, first, rows, {}, make_parameters<T>(call)};
      auto* next = static_cast<Compute<T>*>(call.activations);
      for (int l = 0; l < net.sine_layers(); next += rows * net.sine[l++].outputs) slice.activations[l] = next;
      slice.activations[kSirenMostSineLayers] = next;
      if (const cudaError_t error = run(slice)) return error;
    }
  return cudaSuccess;
}

template <class T>
static cudaError_t exact_forward(const SirenFieldCudaCall& call, cudaStream_t stream) {
  return for_each_slice<T>(call, [&](const SirenSlice<T>& slice) { return launch_siren_slice_forward(slice, stream); });
}

static void set_exact_path(SirenFieldCudaCall* call) {
  constexpr int64_t kElements = int64_t{1} << 24;  // 64 MB of float: small beside the inputs that need more
  const SirenNetwork& net = call->network;
  call->path = {};
  call->path.exact_row_elements = net.films + (net.view_directions ? net.colour().inputs : 0);
  call->path.exact_rows = std::max<int64_t>(1, std::min(call->count, kElements / call->path.exact_row_elements));
}

static SirenFieldArrays make_arrays(const SirenFieldCudaCall& call) {
  return {any_floats(call.points, call.dtype),
          any_floats(call.directions, call.dtype),
          any_floats(call.parameters, call.dtype),
          any_floats(call.features, call.dtype),
          any_floats(call.density, call.dtype),
          call.count,
          call.points_per_direction,
          call.network.feature.outputs,
          float(call.network.point_scale)};
}

// Whether the tensor-core kernels hold such a field: its channels in registers, three pieces of it in shared memory.
static bool fits(const SirenFieldCudaCall& call, const SirenPlan& plan, const DeviceLimits& limits) {
  const int widest_kernel = plan.parts == 2 ? 128 : 256;
  for (int l = 0; l < plan.sines; ++l)
    if (call.network.sine[l].outputs > widest_kernel) return false;
  return SirenWeights::shared_bytes(plan, false, false) <= size_t(limits.shared_bytes);
}

cudaError_t choose_siren_field_path(SirenFieldCudaCall* call) {
  set_exact_path(call);
  if (call->dtype == CudaDtype::kFloat64) return cudaSuccess;
  const int parts = call->dtype == CudaDtype::kFloat32 && !call->reduced_precision ? 2 : 1;
  DeviceLimits limits;
  if (const cudaError_t error = device_limits(&limits)) return error;
  const SirenPlan plan = make_siren_plan(call->network, parts);
  if (fits(*call, plan, limits)) call->path = {parts, plan.packed_bytes, 0, 0};
  return cudaSuccess;
}

template <int Parts>
static cudaError_t forward(const SirenFieldCudaCall& call, const SirenPlan& plan, cudaStream_t stream) {
  DeviceLimits limits;
  if (const cudaError_t error = device_limits(&limits)) return error;
  const SirenFieldArrays arrays = make_arrays(call);
  const auto* packed = static_cast<const unsigned char*>(call.packed);
  if (plan.widest() <= 64) return launch_siren_forward<64, 2, Parts>(plan, arrays, call.batch, packed, limits, stream);
  if (plan.widest() <= 128)
    return launch_siren_forward<128, 3 - Parts, Parts>(plan, arrays, call.batch, packed, limits, stream);
  return launch_siren_forward<256, 1, 1>(plan, arrays, call.batch, packed, limits, stream);
}

cudaError_t launch_siren_field_forward(const SirenFieldCudaCall& call, cudaStream_t stream) {
  if (call.batch == 0 || call.count == 0) return cudaSuccess;
  cudaError_t error = cudaSuccess;
  if (call.path.parts == 0) {
    CIPS3D_DISPATCH_DTYPE(call.dtype, T, error = exact_forward<T>(call, stream));
    return error;
  }
  const SirenPlan plan = make_siren_plan(call.network, call.path.parts);
  CIPS3D_DISPATCH_DTYPE(call.dtype, T, if constexpr (!std::is_same_v<T, double>) error = fold<T>(call, plan, stream));
  if (error) return error;
  return call.path.parts == 2 ? forward<2>(call, plan, stream) : forward<1>(call, plan, stream);
}

}  // namespace cips3d
