// What crosses the line between the CUDA glue of sample_planes and sample_volume (grid_sample_cuda_call.h) and their
// kernels (grid_sample_*.cuh).
#pragma once
#include "common/cuda_launch.h"
#include "common/grid_sample_math.h"

namespace cips3d {

// Contiguous arrays of the call's dtype but the points and the sums, which have its computing type.
struct GridSampleCudaCall {
  GridSizes sizes;
  GridOptions options;
  const void *grids, *points, *grad;
  void *output, *grad_grids, *grad_points;
  void* rows;  // [B*P, texels, row]: the grids with their channels side by side, in whole vectors
  void* sums;  // [B*P, texels, row]: gradients of rows
  int64_t row;

  // Points by the cell they lie in: B*P*N keys, and how they are sorted.
  int64_t *keys, *cell_starts;
  const int64_t *sorted_keys, *order;

  // Cells of one grid: between two texels along each axis, and beyond the first and the last.
  CIPS3D_HOST_DEVICE int64_t cells(int axes) const {
    int64_t count = 1;
    for (int axis = 0; axis < axes; ++axis) count *= sizes.along[axis] + 1;
    return count;
  }
  CIPS3D_HOST_DEVICE int64_t grids_of_all() const { return sizes.batch * sizes.grids; }
};

struct GridSampleCudaLaunchers {
  int axes;
  cudaError_t (*stage)(CudaDtype, const GridSampleCudaCall&, cudaStream_t);            // grids -> rows
  cudaError_t (*sample)(CudaDtype, const GridSampleCudaCall&, cudaStream_t);           // rows, points -> output
  cudaError_t (*point_gradients)(CudaDtype, const GridSampleCudaCall&, cudaStream_t);  // rows, points, grad
  cudaError_t (*find_cells)(CudaDtype, const GridSampleCudaCall&, cudaStream_t);       // points -> keys
  // sorted_keys, order, points, grad -> cell_starts, sums -> grad_grids
  cudaError_t (*grid_gradients)(CudaDtype, const GridSampleCudaCall&, cudaStream_t);
};

// Numbers of one vector of a row.
constexpr int64_t row_vector(CudaDtype dtype) {
  return dtype == CudaDtype::kFloat64 ? 2 : dtype == CudaDtype::kFloat32 ? 4 : 8;
}

}  // namespace cips3d
