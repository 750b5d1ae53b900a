// Launchers of the kernels of sample_planes and sample_volume, by the axes of their grids.
#pragma once
#include "common/grid_sample_texels.cuh"

namespace cips3d {

// Lanes that share a point or a texel.
inline int lanes_of_row(const GridSampleCudaCall& call, int64_t vector) {
  int lanes = 1;
  while (lanes < kWarpSize && lanes * vector < call.sizes.channels) lanes *= 2;
  return lanes;
}

inline cudaError_t launch_grid_stage(CudaDtype dtype, const GridSampleCudaCall& call, cudaStream_t stream) {
  const int64_t channels = call.sizes.channels, texels = call.sizes.texels();
  CIPS3D_DISPATCH_DTYPE(dtype, T, {
    launch_turn<T, T>(call.grids, call.rows, call.grids_of_all(), channels, texels, texels, call.row, 1.0, stream);
  });
  return launch_error();
}

template <int Axes>
cudaError_t launch_grid_sample(CudaDtype dtype, const GridSampleCudaCall& call, cudaStream_t stream) {
  const int lanes = lanes_of_row(call, row_vector(dtype));
  const unsigned blocks = grid_size(call.sizes.batch * call.sizes.points, kGridThreads / lanes);
  CIPS3D_DISPATCH_DTYPE(
      dtype, T, { CIPS3D_LAUNCH((grid_sample_kernel<T, Axes>), blocks, kGridThreads, 0, stream, call, lanes); });
  return launch_error();
}

template <int Axes>
cudaError_t launch_grid_point_gradients(CudaDtype dtype, const GridSampleCudaCall& call, cudaStream_t stream) {
  const int lanes = lanes_of_row(call, row_vector(dtype));
  const unsigned blocks = grid_size(call.sizes.batch * call.sizes.points, kGridThreads / lanes);
  CIPS3D_DISPATCH_DTYPE(dtype, T, {
    CIPS3D_LAUNCH((grid_point_gradients_kernel<T, Axes>), blocks, kGridThreads, 0, stream, call, lanes);
  });
  return launch_error();
}

template <int Axes>
cudaError_t launch_grid_cells(CudaDtype dtype, const GridSampleCudaCall& call, cudaStream_t stream) {
  const unsigned blocks = grid_size(call.grids_of_all() * call.sizes.points, kGridThreads);
  if (dtype == CudaDtype::kFloat64)
    CIPS3D_LAUNCH((grid_cells_kernel<double, Axes>), blocks, kGridThreads, 0, stream, call);
  else
    CIPS3D_LAUNCH((grid_cells_kernel<float, Axes>), blocks, kGridThreads, 0, stream, call);
  return launch_error();
}

template <int Axes>
cudaError_t launch_grid_gradients(CudaDtype dtype, const GridSampleCudaCall& call, cudaStream_t stream) {
  const int64_t grids = call.grids_of_all(), texels = call.sizes.texels();
  const int lanes = lanes_of_row(call, row_vector(dtype));
  CIPS3D_LAUNCH((grid_cell_starts_kernel<Axes>), grid_size(grids * call.cells(Axes) + 1, kGridThreads), kGridThreads, 0,
                stream, call);
  if (const cudaError_t error = launch_error()) return error;
  CIPS3D_DISPATCH_DTYPE(dtype, T, {
    CIPS3D_LAUNCH((grid_gather_kernel<T, Axes>), grid_size(grids * texels, kGridThreads / lanes), kGridThreads, 0,
                  stream, call, lanes);
    if (const cudaError_t error = launch_error()) return error;
    const bool mean = call.options.reduction == GridReduction::kMean;
    launch_turn<Compute<T>, T>(call.sums, call.grad_grids, grids, texels, call.sizes.channels, call.row, texels,
                               mean ? 1.0 / double(call.sizes.grids) : 1.0, stream);
  });
  return launch_error();
}

template <int Axes>
constexpr GridSampleCudaLaunchers grid_sample_launchers() {
  return {Axes,
          launch_grid_stage,
          launch_grid_sample<Axes>,
          launch_grid_point_gradients<Axes>,
          launch_grid_cells<Axes>,
          launch_grid_gradients<Axes>};
}

}  // namespace cips3d
