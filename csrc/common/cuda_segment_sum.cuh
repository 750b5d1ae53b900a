// Sums over the middle axis of a [G,N,C] array that a source computes element by element.
//
// Computes  out[g,c] = factor * sum_n source(g, n, c)
// Axes      G groups, N summands, C columns.
// Launch    launch_segment_sum(): blocks of 32 columns x 8 rows; long sums in two passes, parts first.
// Traffic   one read of the source, coalesced along C; parts are 1/1000 of it.
// Numerics  sums in Real: 8 strided partial sums, then these in order, then the parts in order. Depends on the sizes
//           alone.
// Limit     few columns with many summands leave threads idle (C < 32).
#pragma once
#include "common/cuda_launch.h"
#include "common/cuda_platform.h"
#include "common/cuda_sizes.h"

namespace cips3d {

constexpr int kSumColumns = kWarpSize, kSumRows = 8;

// A [G,N,C] array in memory as a source.
template <class T>
struct ArraySource {
  const T* data;
  int64_t n, columns;
  __device__ __forceinline__ Compute<T> operator()(int64_t g, int64_t i, int64_t column) const {
    return static_cast<Compute<T>>(data[(g * n + i) * columns + column]);
  }
};

// out[(g * parts + part) * columns + column], parts = gridDim.y
template <class Real, class Source, class Out>
__global__ void __launch_bounds__(kSumColumns* kSumRows)
    segment_sum_kernel(Source source, Out* out, int64_t groups, int64_t n, int64_t columns, int64_t part_length,
                       Real factor) {
  CIPS3D_SHARED(Real, partial, [kSumRows][kSumColumns]);
  const int lane = int(threadIdx.x) % kSumColumns, row = int(threadIdx.x) / kSumColumns;
  const int64_t column = int64_t(blockIdx.x) * kSumColumns + lane;
  const int64_t first = int64_t(blockIdx.y) * part_length, end = min(n, first + part_length);
  for (int64_t g = blockIdx.z; g < groups; g += gridDim.z) {
    Real sum = 0;
    if (column < columns)
      for (int64_t i = first + row; i < end; i += kSumRows) sum += source(g, i, column);
    partial[row][lane] = sum;
    __syncthreads();
    if (row == 0 && column < columns) {
      for (int r = 1; r < kSumRows; ++r) sum += partial[r][lane];
      out[(g * gridDim.y + blockIdx.y) * columns + column] = static_cast<Out>(factor * sum);
    }
    __syncthreads();
  }
}

// `workspace` holds segment_sum_workspace(groups, n, columns) Reals. N may be 0.
template <class Real, class Source, class Out>
cudaError_t launch_segment_sum(const Source& source, Out* out, Real* workspace, int64_t groups, int64_t n,
                               int64_t columns, double factor, cudaStream_t stream) {
  if (groups == 0 || columns == 0) return cudaSuccess;
  const dim3 block(kSumColumns * kSumRows);
  const int64_t parts = segment_sum_parts(n);
  const dim3 grid(unsigned(ceil_div(columns, kSumColumns)), 1, grid_size(groups, 1, kMaxGridYZ));
  if (parts == 1) {
    CIPS3D_LAUNCH((segment_sum_kernel<Real, Source, Out>), grid, block, 0, stream, source, out, groups, n, columns, n,
                  Real(factor));
    return launch_error();
  }
  const dim3 grid_of_parts(grid.x, unsigned(parts), grid.z);
  CIPS3D_LAUNCH((segment_sum_kernel<Real, Source, Real>), grid_of_parts, block, 0, stream, source, workspace, groups, n,
                columns, ceil_div(n, parts), Real(1));
  if (const cudaError_t error = launch_error()) return error;
  const ArraySource<Real> sums_of_parts{workspace, parts, columns};
  CIPS3D_LAUNCH((segment_sum_kernel<Real, ArraySource<Real>, Out>), grid, block, 0, stream, sums_of_parts, out, groups,
                parts, columns, parts, Real(factor));
  return launch_error();
}

}  // namespace cips3d
