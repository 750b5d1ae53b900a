// Which kernels siren_field takes, forward and backward, and the launcher of its forward. The kernels' notes are in
// siren_field_forward.cuh.
#include "siren_field/siren_field_cuda.h"

#include <type_traits>

#include "common/cuda_segment_sum.cuh"
#include "siren_field/siren_field_exact.cuh"
#include "siren_field/siren_field_forward.cuh"

namespace cips3d {

// Sizes of the exact path's working memory, for a forward or a backward.
static void set_exact_path(SirenFieldCudaCall* call, bool backward) {
  constexpr int64_t kElements = int64_t{1} << 24;  // 64 MB of float: small beside the inputs that need more
  const SirenNetwork& net = call->network;
  SirenFieldPath& path = call->path;
  path = {};
  path.exact_row_elements = net.films + (net.view_directions ? net.colour().inputs : 0);
  int64_t widest = net.feature.inputs;
  for (int l = 0; l < net.sine_layers(); ++l) widest = std::max({widest, net.sine[l].inputs, net.sine[l].outputs});
  if (backward) path.exact_row_elements += kSirenSliceGradientArrays * widest;
  path.exact_rows = std::max<int64_t>(1, std::min(call->count, kElements / path.exact_row_elements));
  path.exact_widest = widest;
  if (!backward) return;

  const int64_t slices_of_image = ceil_div(call->count, path.exact_rows), slices = call->batch * slices_of_image;
  path.sum_elements = slices * (net.parameters + 2 * net.films);
  path.sum_part_elements =
      std::max({segment_sum_workspace(1, path.exact_rows, widest), segment_sum_workspace(1, slices, net.parameters),
                segment_sum_workspace(call->batch, slices_of_image, net.films)});
  const auto add = [&](const SirenLayer& layer) {
    const int64_t splits = gemm_splits(Product::kExact, layer.outputs, layer.inputs, path.exact_rows);
    const int64_t elements = layer.outputs * layer.inputs;
    path.partial_elements = std::max(path.partial_elements, splits * elements);
    path.sum_part_elements = std::max(path.sum_part_elements, segment_sum_workspace(1, splits, elements));
  };
  for (int l = 0; l < net.sine_layers(); ++l) add(net.sine[l]);
  add(net.density);
  add(net.feature);
}

static cudaError_t choose_path(SirenFieldCudaCall* call, bool backward) {
  set_exact_path(call, backward);
  const int parts = siren_parts(*call);
  if (parts == 0 || call->batch == 0 || call->count == 0) return cudaSuccess;
  DeviceLimits limits;
  if (const cudaError_t error = device_limits(&limits)) return error;
  const SirenPlan plan = make_siren_plan(call->network, parts);
  SirenTensorCores cores{};
  if (backward) {
    cores = plan_siren_backward(*call, plan, call->count, limits);
  } else if (SirenWeights::shared_bytes(plan, false, false) <= size_t(limits.shared_bytes)) {
    cores.parts = parts;
    cores.packed_bytes = plan.packed_bytes;
  }
  if (cores.parts == 0) return cudaSuccess;
  call->path = {};
  call->path.cores = cores;
  return cudaSuccess;
}

cudaError_t choose_siren_field_path(SirenFieldCudaCall* call) { return choose_path(call, false); }

cudaError_t choose_siren_field_backward_path(SirenFieldCudaCall* call) {
  const cudaError_t error = choose_path(call, true);
  if (!call->grad_directions) return error;
  call->path.sum_part_elements =
      std::max(call->path.sum_part_elements,
               segment_sum_workspace(call->batch * call->rays, call->points_per_direction, kSirenCoordinates));
  return error;
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
