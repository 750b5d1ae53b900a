// The CPU glue of sample_planes and sample_volume: allocates, runs the kernels on torch's threads.
#pragma once
#include "common/cpu_call.h"
#include "common/cpu_dtype.h"
#include "common/grid_sample.h"
#include "common/grid_sample_cpu.h"
#include "common/parallel.h"

namespace cips3d {

// Fewer blocks of points than this are not worth another thread.
inline constexpr int64_t kPointBlocksPerWorker = 16;

inline GridSampleCpuCall plain_call(const GridSampleCall& call) {
  GridSampleCpuCall plain{};
  plain.sizes = call.sizes;
  plain.options = call.options;
  plain.grids = data(call.grids);
  plain.points = data(call.points);
  return plain;
}

// Sample after sample: its grids to rows, then `kernel` over its points.
template <class Kernel>
void for_points_of_all_samples(const GridSampleCall& call, GridSampleCpuCall& plain,
                               const GridSampleCpuKernels& kernels, Kernel kernel) {
  const GridSizes& sizes = call.sizes;
  const Tensor rows =
      on_huge_pages(torch::stable::new_empty(call.grids, {sizes.grids, plain.padded_texels(), plain.row()}));
  plain.rows = data(rows);
  const int64_t texel_blocks = sizes.grids * ((sizes.texels() + kBlockTexels - 1) / kBlockTexels);
  const int64_t point_blocks = (sizes.points + kPointsAtOnce - 1) / kPointsAtOnce;
  for (int64_t b = 0; b < sizes.batch; ++b) {
    parallel_shares(texel_blocks, worker_count(texel_blocks),
                    [&](int64_t, int64_t first, int64_t last) { kernels.stage(plain, b, first, last); });
    parallel_shares(point_blocks, worker_count(point_blocks / kPointBlocksPerWorker),
                    [&](int64_t, int64_t first, int64_t last) { kernel(plain, b, first, last); });
  }
}

inline Tensor grid_sample_cpu(const GridSampleCall& call, const GridSampleCpuKernels& kernels) {
  const Tensor output = on_huge_pages(torch::stable::new_empty(call.grids, call.output_shape()));
  if (output.numel() == 0) return output;
  GridSampleCpuCall plain = plain_call(call);
  plain.output = data(output);
  for_points_of_all_samples(call, plain, kernels, kernels.sample);
  return output;
}

inline GridSampleGradients grid_sample_backward_cpu(const GridSampleCall& call, const GridSampleCpuKernels& kernels,
                                                    const Tensor& grad, int64_t grad_mask) {
  const bool of_grids = grad_mask >> kGridGradGrids & 1, of_points = grad_mask >> kGridGradPoints & 1;
  const GridSampleGradients gradients{of_grids ? output_like(call.grids) : no_gradient(call.grids),
                                      of_points ? output_like(call.points) : no_gradient(call.points)};
  if (grad.numel() == 0) return zero_all(gradients);
  GridSampleCpuCall plain = plain_call(call);
  plain.grad = data(grad);
  if (of_points) {
    plain.grad_points = data(std::get<kGridGradPoints>(gradients));
    for_points_of_all_samples(call, plain, kernels, kernels.point_gradients);
  }
  if (of_grids) {
    plain.grad_grids = data(std::get<kGridGradGrids>(gradients));
    const int64_t tasks = plain.scatter_tasks(), workers = worker_count(tasks);
    const Tensor sums = working_memory(call.grids, workers * plain.padded_texels() * plain.slice());
    plain.sums = data(sums);
    parallel_shares(tasks, workers, [&](int64_t worker, int64_t first, int64_t last) {
      kernels.grid_gradients(plain, worker, first, last);
    });
  }
  return gradients;
}

}  // namespace cips3d
