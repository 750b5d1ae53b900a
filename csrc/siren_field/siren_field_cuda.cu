// Launchers of siren_field's kernels. The kernels' notes are in siren_field_forward.cuh.
#include "siren_field/siren_field_cuda.h"

#include <type_traits>

#include "common/cuda_segment_sum.cuh"
#include "siren_field/siren_field_backward.cuh"
#include "siren_field/siren_field_exact_backward.cuh"
#include "siren_field/siren_field_forward.cuh"

namespace cips3d {

template <class T>
static cudaError_t fold(const SirenFieldCudaCall& call, const SirenPlan& plan, cudaStream_t stream) {
  auto* packed = static_cast<unsigned char*>(call.packed);
  return launch_siren_fold(plan, make_parameters<T>(call), call.batch, packed, stream);
}

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

constexpr int widest_kernel(int parts) { return parts == 2 ? 128 : 256; }  // what their registers hold

// Chooses how many warps a block of the backward has and where its weights are: as many warps as shared memory holds
// the operands of, then weights that stay. Leaves the exact path if not even two fit.
static void plan_backward(SirenFieldCudaCall* call, const SirenPlan& net, const DeviceLimits& limits) {
  if (call->network.feature.outputs > widest_kernel(net.parts)) return;
  const auto weight_bytes = [&](bool resident) { return SirenWeights::shared_bytes(net, resident, true); };
  for (int warps = kSirenMostWarps; warps >= 2; warps /= 2)
    for (const bool resident : {true, false}) {
      const SirenBackwardPlan plan = make_siren_backward_plan(net, warps, resident, weight_bytes);
      if (plan.shared_bytes > limits.shared_bytes) continue;
      const int64_t tiles = ceil_div(call->count, warps * 16);
      SirenFieldPath path{};
      path.parts = net.parts;
      path.packed_bytes = net.packed_bytes;
      path.backward = plan;
      path.blocks_per_image = siren_blocks_per_image(call->batch, tiles, limits.multiprocessors);
      const int64_t blocks = call->batch * path.blocks_per_image;
      path.scale_elements = siren_scale_elements(call->batch);
      path.tape_bytes = blocks * plan.tape_bytes;
      path.partial_elements = blocks * plan.partial_floats;
      path.sum_elements = call->batch * call->network.parameters;
      call->path = path;
      return;
    }
}

static cudaError_t choose_path(SirenFieldCudaCall* call, bool backward) {
  set_exact_path(call, backward);
  if (call->dtype == CudaDtype::kFloat64 || call->batch == 0 || call->count == 0) return cudaSuccess;
  const int parts = call->dtype == CudaDtype::kFloat32 && !call->reduced_precision ? 2 : 1;
  for (int l = 0; l < call->network.sine_layers(); ++l)
    if (call->network.sine[l].outputs > widest_kernel(parts)) return cudaSuccess;
  DeviceLimits limits;
  if (const cudaError_t error = device_limits(&limits)) return error;
  const SirenPlan plan = make_siren_plan(call->network, parts);
  if (backward) {
    plan_backward(call, plan, limits);
  } else if (SirenWeights::shared_bytes(plan, false, false) <= size_t(limits.shared_bytes)) {
    call->path = {};
    call->path.parts = parts;
    call->path.packed_bytes = plan.packed_bytes;
  }
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
    CIPS3D_DISPATCH_DTYPE(call.dtype, T, error = launch_siren_exact_forward<T>(call, stream));
    return error;
  }
  const SirenPlan plan = make_siren_plan(call.network, call.path.parts);
  CIPS3D_DISPATCH_DTYPE(call.dtype, T, if constexpr (!std::is_same_v<T, double>) error = fold<T>(call, plan, stream));
  if (error) return error;
  return call.path.parts == 2 ? forward<2>(call, plan, stream) : forward<1>(call, plan, stream);
}

template <class T>
static cudaError_t scales(const SirenFieldCudaCall& call, const SirenPlan& net, cudaStream_t stream) {
  float* scales = static_cast<float*>(call.scales);
  float* maxima = scales + call.batch * kSirenScales;
  const int64_t points = call.batch * call.count;
  CIPS3D_LAUNCH((siren_maximum_kernel<T>), dim3(kSirenMaximumBlocks), dim3(kSirenSumThreads), 0, stream,
                static_cast<const T*>(call.grad_features), points * call.network.feature.outputs,
                static_cast<const T*>(call.grad_density), points, maxima);
  if (const cudaError_t error = launch_error()) return error;
  const dim3 grid(unsigned(net.layers), grid_size(call.batch, 1, kMaxGridYZ));
  CIPS3D_LAUNCH((siren_scales_kernel<T>), grid, dim3(kSirenSumThreads), 0, stream, net, make_parameters<T>(call),
                call.batch, maxima, scales);
  return launch_error();
}

template <int Parts>
static cudaError_t backward_points(const SirenFieldCudaCall& call, cudaStream_t stream) {
  const SirenFieldArrays arrays = make_arrays(call);
  const SirenFieldGradientArrays gradients{
      any_floats(call.grad_features, call.dtype), any_floats(call.grad_density, call.dtype),
      any_floats(call.grad_points, call.dtype), static_cast<float*>(call.direction_gradients)};
  const SirenBackwardMemory memory{static_cast<const unsigned char*>(call.packed),
                                   static_cast<const float*>(call.scales), static_cast<unsigned char*>(call.tapes),
                                   static_cast<float*>(call.partials)};
  const SirenBackwardLaunch launch{call.path.backward, call.path.blocks_per_image};
  const int widest = std::max(launch.plan.net.widest(), int(call.network.feature.outputs));
  if (widest <= 64) return launch_siren_backward<64, Parts>(launch, arrays, gradients, memory, call.batch, stream);
  if (widest <= 128) return launch_siren_backward<128, Parts>(launch, arrays, gradients, memory, call.batch, stream);
  return launch_siren_backward<256, 1>(launch, arrays, gradients, memory, call.batch, stream);
}

// From the blocks' sums, and from the gradients of each point's direction, to what is wanted.
template <class T>
static cudaError_t backward_sums(const SirenFieldCudaCall& call, cudaStream_t stream) {
  const SirenBackwardPlan& plan = call.path.backward;
  const int64_t parameters = call.network.parameters;
  float* sums = static_cast<float*>(call.sums);
  if (call.grad_parameters || call.grad_gamma || call.grad_beta) {
    CIPS3D_LAUNCH((siren_sum_partials_kernel), dim3(grid_size(call.batch * parameters, kSirenSumThreads)),
                  dim3(kSirenSumThreads), 0, stream, plan, static_cast<const float*>(call.partials),
                  static_cast<const float*>(call.scales), sums, call.batch, parameters, call.path.blocks_per_image);
    if (const cudaError_t error = launch_error()) return error;
  }
  if (call.grad_parameters) {
    CIPS3D_LAUNCH((siren_parameter_gradient_kernel<T>), dim3(grid_size(parameters, kSirenSumThreads)),
                  dim3(kSirenSumThreads), 0, stream, plan.net, make_parameters<T>(call), sums,
                  static_cast<T*>(call.grad_parameters), call.batch, parameters);
    if (const cudaError_t error = launch_error()) return error;
  }
  if (call.grad_gamma || call.grad_beta) {
    const int64_t entries = call.batch * call.network.films;
    CIPS3D_LAUNCH((siren_film_gradient_kernel<T>), dim3(grid_size(entries, kSirenSumThreads / kWarpSize)),
                  dim3(kSirenSumThreads), 0, stream, plan.net, make_parameters<T>(call), sums,
                  static_cast<T*>(call.grad_gamma), static_cast<T*>(call.grad_beta), call.batch, parameters);
    if (const cudaError_t error = launch_error()) return error;
  }
  return cudaSuccess;
}

template <class T>
static cudaError_t tensor_core_backward(const SirenFieldCudaCall& call, cudaStream_t stream) {
  const SirenPlan& net = call.path.backward.net;
  cudaError_t error = fold<T>(call, net, stream);
  if (!error) error = scales<T>(call, net, stream);
  if (!error) error = net.parts == 2 ? backward_points<2>(call, stream) : backward_points<1>(call, stream);
  return error ? error : backward_sums<T>(call, stream);
}

template <class T>
static cudaError_t backward(const SirenFieldCudaCall& call, cudaStream_t stream) {
  using Real = Compute<T>;
  cudaError_t error = cudaSuccess;
  if constexpr (!std::is_same_v<T, double>)
    if (call.path.parts > 0) error = tensor_core_backward<T>(call, stream);
  if (call.path.parts == 0) error = launch_siren_exact_backward<T>(call, stream);
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
