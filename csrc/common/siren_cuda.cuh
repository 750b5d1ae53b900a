// Launchers of what the ops with a SIREN field share: folding the weights, and a backward from its growths to the
// gradients of parameters, gamma and beta.
#pragma once
#include "common/siren_backward_kernel.cuh"
#include "common/siren_cuda.h"

namespace cips3d {

template <class T>
SirenParameters<T> make_parameters(const SirenCudaField& field) {
  const SirenNetwork& network = field.network;
  return {static_cast<const T*>(field.parameters),
          static_cast<const T*>(field.gamma),
          static_cast<const T*>(field.beta),
          Compute<T>(network.gamma_scale),
          Compute<T>(network.gamma_offset),
          Compute<T>(network.beta_scale),
          network.films};
}

template <class T>
cudaError_t fold_siren(const SirenCudaField& field, const SirenPlan& plan, cudaStream_t stream) {
  return launch_siren_fold(plan, make_parameters<T>(field), field.batch, static_cast<unsigned char*>(field.packed),
                           stream);
}

// Template arguments of the kernels that run a field forward.
template <int WidthOf, int TilesOf, int PartsOf>
struct SirenShape {
  static constexpr int kWidth = WidthOf, kTiles = TilesOf, kParts = PartsOf;
};

// Calls run(shape) with the SirenShape that a field takes.
template <class Run>
cudaError_t with_siren_shape(const SirenPlan& plan, const Run& run) {
  const int widest = plan.widest();
  if (plan.parts == 2) return widest <= 64 ? run(SirenShape<64, 2, 2>{}) : run(SirenShape<128, 1, 2>{});
  if (widest <= 64) return run(SirenShape<64, 2, 1>{});
  return widest <= 128 ? run(SirenShape<128, 2, 1>{}) : run(SirenShape<256, 1, 1>{});
}

// Blocks for each image, such that the device is full once.
inline int64_t siren_blocks_per_image(int64_t images, int64_t tiles, int64_t resident_blocks) {
  return std::max<int64_t>(1, std::min(tiles, resident_blocks / images));
}

// Chooses how many warps a block of the backward has and where its weights are: as many warps as shared memory holds
// the operands of, then weights that stay. parts is 0 if not even two fit, or if there are too many features.
inline SirenTensorCores plan_siren_backward(const SirenCudaField& field, const SirenPlan& net, int64_t count,
                                            const DeviceLimits& limits) {
  SirenTensorCores cores{};
  if (field.network.feature.outputs > siren_widest_kernel(net.parts)) return cores;
  const auto weight_bytes = [&](bool resident) { return SirenWeights::shared_bytes(net, resident, true); };
  for (int warps = kSirenMostWarps; warps >= 2; warps /= 2)
    for (const bool resident : {true, false}) {
      const SirenBackwardPlan plan = make_siren_backward_plan(net, warps, resident, weight_bytes);
      if (plan.shared_bytes > limits.shared_bytes) continue;
      cores.parts = net.parts;
      cores.packed_bytes = net.packed_bytes;
      cores.backward = plan;
      cores.blocks_per_image = siren_blocks_per_image(field.batch, ceil_div(count, warps * 16), limits.multiprocessors);
      const int64_t blocks = field.batch * cores.blocks_per_image;
      cores.growth_elements = siren_growth_elements(field.batch);
      cores.tape_bytes = blocks * plan.tape_bytes;
      cores.partial_elements = blocks * plan.partial_floats;
      cores.sum_elements = field.batch * field.network.parameters;
      return cores;
    }
  return cores;
}

// Growths for gradients of the outputs whose magnitudes are at most those in a [n] and b [m]; either may be null.
template <class T, class A, class B>
cudaError_t bound_siren_gradients(const SirenCudaField& field, const SirenPlan& net, const A* a, int64_t n, const B* b,
                                  int64_t m, cudaStream_t stream) {
  float* growths = static_cast<float*>(field.growths);
  float* maxima = growths + field.batch * kSirenGrowths;
  CIPS3D_LAUNCH((siren_maximum_kernel<A, B>), dim3(kSirenMaximumBlocks), dim3(kSirenSumThreads), 0, stream, a, n, b, m,
                maxima);
  if (const cudaError_t error = launch_error()) return error;
  const dim3 grid(unsigned(net.layers), grid_size(field.batch, 1, kMaxGridYZ));
  CIPS3D_LAUNCH((siren_growth_kernel<T>), grid, dim3(kSirenSumThreads), 0, stream, net, make_parameters<T>(field),
                field.batch, maxima, growths);
  return launch_error();
}

template <int Width, int Parts, class Points>
cudaError_t launch_siren_backward(const SirenCudaField& field, const SirenTensorCores& cores, const Points& points,
                                  cudaStream_t stream) {
  const SirenBackwardPlan& plan = cores.backward;
  const SirenBackwardMemory memory{static_cast<const unsigned char*>(field.packed),
                                   static_cast<const float*>(field.growths), static_cast<unsigned char*>(field.tapes),
                                   static_cast<float*>(field.partials)};
  const dim3 block(unsigned(plan.warps * kWarpSize)), grid(unsigned(field.batch * cores.blocks_per_image));
  int blocks = 0;
  const cudaError_t error = allow_shared_memory(&siren_backward_kernel<Width, Parts, Points>, int(block.x),
                                                size_t(plan.shared_bytes), &blocks);
  if (error) return error;
  CIPS3D_LAUNCH((siren_backward_kernel<Width, Parts, Points>), grid, block, size_t(plan.shared_bytes), stream, plan,
                points, memory, cores.blocks_per_image);
  return launch_error();
}

// The kernel over all points: gradients of points and directions, and the blocks' sums.
template <class Points>
cudaError_t launch_siren_backward_points(const SirenCudaField& field, const SirenTensorCores& cores,
                                         const Points& points, cudaStream_t stream) {
  const int widest = std::max(cores.backward.net.widest(), int(field.network.feature.outputs));
  if (cores.parts == 2)
    return widest <= 64 ? launch_siren_backward<64, 2>(field, cores, points, stream)
                        : launch_siren_backward<128, 2>(field, cores, points, stream);
  if (widest <= 64) return launch_siren_backward<64, 1>(field, cores, points, stream);
  if (widest <= 128) return launch_siren_backward<128, 1>(field, cores, points, stream);
  return launch_siren_backward<256, 1>(field, cores, points, stream);
}

// From the blocks' sums to the gradients of parameters, gamma and beta that are wanted.
template <class T>
cudaError_t launch_siren_backward_sums(const SirenCudaField& field, const SirenTensorCores& cores,
                                       cudaStream_t stream) {
  if (!field.grad_parameters && !field.grad_gamma && !field.grad_beta) return cudaSuccess;
  const SirenBackwardPlan& plan = cores.backward;
  const int64_t parameters = field.network.parameters;
  float* sums = static_cast<float*>(field.sums);
  CIPS3D_LAUNCH((siren_sum_partials_kernel), dim3(grid_size(field.batch * parameters, kSirenSumThreads)),
                dim3(kSirenSumThreads), 0, stream, plan, static_cast<const float*>(field.partials), sums, field.batch,
                parameters, cores.blocks_per_image);
  if (const cudaError_t error = launch_error()) return error;
  if (field.grad_parameters) {
    CIPS3D_LAUNCH((siren_parameter_gradient_kernel<T>), dim3(grid_size(parameters, kSirenSumThreads)),
                  dim3(kSirenSumThreads), 0, stream, plan.net, make_parameters<T>(field), sums,
                  static_cast<T*>(field.grad_parameters), field.batch, parameters);
    if (const cudaError_t error = launch_error()) return error;
  }
  if (field.grad_gamma || field.grad_beta) {
    const int64_t entries = field.batch * field.network.films;
    CIPS3D_LAUNCH((siren_film_gradient_kernel<T>), dim3(grid_size(entries, kSirenSumThreads / kWarpSize)),
                  dim3(kSirenSumThreads), 0, stream, plan.net, make_parameters<T>(field), sums,
                  static_cast<T*>(field.grad_gamma), static_cast<T*>(field.grad_beta), field.batch, parameters);
    if (const cudaError_t error = launch_error()) return error;
  }
  return cudaSuccess;
}

}  // namespace cips3d
