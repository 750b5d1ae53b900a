// Kernels of sample_planes and sample_volume that work texel by texel: gradients of grids without atomics, and grids
// turned to rows of channels and back.
//
// Computes  turn: the two axes of a matrix exchanged. cell_starts: where each cell's points begin among the sorted ones.
//           gather: a texel's gradient, the sum over the points in the cells around it of weight * grad
// Axes      grids [B*P,C,texels], rows and sums [B*P,texels,C], order [B*P*N]: points by cell, stable
// Launch    turn: blocks of 32 x 32; cell_starts: a thread a cell; gather: up to 32 lanes a texel, each a vector of
//           channels, all in grid-stride loops
// Traffic   grids and rows once; a grad is read by the 2^Axes texels around its point, out of L2
// Numerics  sums in Real, cell by cell, of each cell in the order of the points
// Limit     L2 bandwidth; a cell with very many points (all beyond one border) keeps one group of lanes busy
#pragma once
#include "common/grid_sample_points.cuh"

namespace cips3d {

constexpr int kGatherBlocks = 3;  // a multiprocessor: left alone, ptxas spills to fit five
constexpr int kTurnTile = 32;
constexpr int kTurnRows = kGridThreads / kTurnTile;  // that a block reads at a time

// to[g, column, row] = factor * from[g, row, column]; rows of `from` are from_row apart, those of `to` to_row, and
// filled with zeros behind `rows`.
template <class From, class To>
__global__ void __launch_bounds__(kGridThreads)
    grid_turn_kernel(const From* from, To* to, int64_t groups, int64_t rows, int64_t columns, int64_t from_row,
                     int64_t to_row, Compute<To> factor) {
  CIPS3D_SHARED(Compute<To>, tile, [kTurnTile][kTurnTile + 1]);
  const int x = int(threadIdx.x) % kTurnTile, y = int(threadIdx.x) / kTurnTile;
  const int64_t column = int64_t(blockIdx.x) * kTurnTile;
  for (int64_t group = blockIdx.z; group < groups; group += gridDim.z)
    for (int64_t row = int64_t(blockIdx.y) * kTurnTile; row < to_row; row += int64_t(gridDim.y) * kTurnTile) {
      for (int i = y; i < kTurnTile; i += kTurnRows) {
        const bool there = row + i < rows && column + x < columns;
        tile[i][x] = there ? static_cast<Compute<To>>(from[(group * rows + row + i) * from_row + column + x]) * factor
                           : Compute<To>(0);
      }
      __syncthreads();
      for (int i = y; i < kTurnTile; i += kTurnRows)
        if (column + i < columns && row + x < to_row)
          to[(group * columns + column + i) * to_row + row + x] = static_cast<To>(tile[x][i]);
      __syncthreads();
    }
}

template <class From, class To>
void launch_turn(const void* from, void* to, int64_t groups, int64_t rows, int64_t columns, int64_t from_row,
                 int64_t to_row, double factor, cudaStream_t stream) {
  const dim3 grid(grid_size(columns, kTurnTile), grid_size(to_row, kTurnTile, kMaxGridYZ),
                  grid_size(groups, 1, kMaxGridYZ));
  CIPS3D_LAUNCH((grid_turn_kernel<From, To>), grid, dim3(kGridThreads), 0, stream, static_cast<const From*>(from),
                static_cast<To*>(to), groups, rows, columns, from_row, to_row, Compute<To>(factor));
}

// starts[cell] = how many of the sorted keys are smaller; one more entry, behind the last cell.
template <int Axes>
__global__ void __launch_bounds__(kGridThreads) grid_cell_starts_kernel(const GridSampleCudaCall call) {
  const int64_t count = call.grids_of_all() * call.sizes.points, cells = call.grids_of_all() * call.cells(Axes);
  for (int64_t cell = int64_t(blockIdx.x) * kGridThreads + threadIdx.x; cell <= cells;
       cell += int64_t(gridDim.x) * kGridThreads) {
    int64_t first = 0, last = count;
    while (first < last) {
      const int64_t middle = (first + last) / 2;
      if (call.sorted_keys[middle] < cell)
        first = middle + 1;
      else
        last = middle;
    }
    call.cell_starts[cell] = first;
  }
}

template <class T, int Axes>
__global__ void __launch_bounds__(kGridThreads, kGatherBlocks)
    grid_gather_kernel(const GridSampleCudaCall call, int lanes) {
  using Real = Compute<T>;
  const GridSizes& sizes = call.sizes;
  const int64_t at_once = int64_t(gridDim.x) * (kGridThreads / lanes), texels = sizes.texels();
  for (int64_t of_all = int64_t(blockIdx.x) * (kGridThreads / lanes) + threadIdx.x / lanes;
       of_all < call.grids_of_all() * texels; of_all += at_once) {
    const int64_t group = of_all / texels, b = group / sizes.grids, grid = group - b * sizes.grids;
    for (int64_t channel = int64_t(threadIdx.x) % lanes * kVector<T>; channel < sizes.channels;
         channel += lanes * kVector<T>) {
      Real sums[kVector<T>] = {};
#pragma unroll
      for (int corner = 0; corner < 1 << Axes; ++corner) {
        int64_t cell = 0, step = 1, left = of_all - group * texels;
#pragma unroll
        for (int axis = 0; axis < Axes; ++axis) {  // this texel is the upper one of its cell along the corner's axes
          cell += (left % sizes.along[axis] + 1 - (corner >> axis & 1)) * step;
          left /= sizes.along[axis];
          step *= sizes.along[axis] + 1;
        }
        cell += group * step;
        for (int64_t i = call.cell_starts[cell]; i < call.cell_starts[cell + 1]; ++i) {
          const int64_t n = call.order[i] - group * sizes.points;
          const Real weight = PointCorners<Real, Axes>(call, b * sizes.points + n, grid).weight(corner);
          Real grad[kVector<T>];
          load_channels(static_cast<const T*>(call.grad) + output_offset(call, b, grid, n), channel, sizes.channels,
                        grad);
#pragma unroll
          for (int k = 0; k < kVector<T>; ++k) sums[k] += weight * grad[k];
        }
      }
#pragma unroll
      for (int k = 0; k < kVector<T>; ++k) static_cast<Real*>(call.sums)[of_all * call.row + channel + k] = sums[k];
    }
  }
}

}  // namespace cips3d
