// Kernels of sample_planes (Axes = 2) and sample_volume (Axes = 3) that work point by point.
//
// Computes  sample: each point's corners' rows, weighted and summed over its grids. point_gradients: rows . grad, times
//           the slopes. find_cells: in which cell of each grid a point lies, as a key to sort by
// Axes      rows [B*P,texels,C], points [B,N,3], output and grad [B,N,C] or [B,P,N,C], keys [B*P,N]
// Launch    up to 32 lanes a point (a power of 2), each a vector of channels, all points in a grid-stride loop;
//           find_cells: a thread a key
// Traffic   a point reads 2^Axes rows of each grid, whole lines; output, grad and points once
// Numerics  weights as in grid_sample_math.h; sums over corners and grids in order, over lanes by halves
// Limit     L2 bandwidth of the rows
#pragma once
#include "common/cuda_platform.h"
#include "common/grid_sample_cuda.h"

namespace cips3d {

constexpr int kGridThreads = 256;

template <class Real, int Axes>
struct PointCorners {
  AxisCorners<Real> along[Axes];

  // points: [B,N,3]; point: b * N + n.
  __device__ __forceinline__ PointCorners(const GridSampleCudaCall& call, int64_t point, int64_t grid) {
    const Real* at = static_cast<const Real*>(call.points) + point * 3;
#pragma unroll
    for (int axis = 0; axis < Axes; ++axis)
      along[axis] =
          axis_corners<ScalarToWhole>(Real(call.options.point_scale) * at[call.options.axes[grid * Axes + axis]],
                                      grid_axis<Real>(call.sizes.along[axis], call.options));
  }
  __device__ __forceinline__ int64_t texel(int corner, const GridSizes& sizes) const {
    int64_t index = 0;
#pragma unroll
    for (int axis = Axes - 1; axis >= 0; --axis)
      index = index * sizes.along[axis] + int64_t(along[axis].texel[corner >> axis & 1]);
    return index;
  }
  __device__ __forceinline__ Real weight(int corner) const {
    Real product = 1;
#pragma unroll
    for (int axis = 0; axis < Axes; ++axis) product *= along[axis].weight[corner >> axis & 1];
    return product;
  }
  // Derivative of a corner's weight by the coordinate along `by`.
  __device__ __forceinline__ Real slope(int corner, int by) const {
    Real product = 1;
#pragma unroll
    for (int axis = 0; axis < Axes; ++axis)
      product *= axis == by ? along[axis].slope[corner >> axis & 1] : along[axis].weight[corner >> axis & 1];
    return product;
  }
};

// Offset of what belongs to a grid and point n in the output [B,N,C], or [B,P,N,C] without a reduction.
__device__ __forceinline__ int64_t output_offset(const GridSampleCudaCall& call, int64_t b, int64_t grid, int64_t n) {
  const GridSizes& sizes = call.sizes;
  const int64_t group = call.options.reduction == GridReduction::kNone ? b * sizes.grids + grid : b;
  return (group * sizes.points + n) * sizes.channels;
}

__device__ __forceinline__ double grid_factor(const GridSampleCudaCall& call) {
  return call.options.reduction == GridReduction::kMean ? 1.0 / double(call.sizes.grids) : 1.0;
}

// kVector<T> numbers from `channel` on of `channels` in a row that ends there; zeros behind the end.
template <class T>
__device__ __forceinline__ void load_channels(const T* row, int64_t channel, int64_t channels,
                                              Compute<T> (&values)[kVector<T>]) {
  if (channels % kVector<T> == 0) {
    const Vector<T> vector = load_vector(row + channel);
#pragma unroll
    for (int i = 0; i < kVector<T>; ++i) values[i] = static_cast<Compute<T>>(vector.element[i]);
    return;
  }
#pragma unroll
  for (int i = 0; i < kVector<T>; ++i)
    values[i] = channel + i < channels ? static_cast<Compute<T>>(row[channel + i]) : Compute<T>(0);
}

template <class T>
__device__ __forceinline__ void store_channels(T* row, int64_t channel, int64_t channels,
                                               const Compute<T> (&values)[kVector<T>]) {
  if (channels % kVector<T> == 0) {
    Vector<T> vector;
#pragma unroll
    for (int i = 0; i < kVector<T>; ++i) vector.element[i] = static_cast<T>(values[i]);
    return store_vector(row + channel, vector);
  }
#pragma unroll
  for (int i = 0; i < kVector<T>; ++i)
    if (channel + i < channels) row[channel + i] = static_cast<T>(values[i]);
}

template <class T, int Axes>
__global__ void __launch_bounds__(kGridThreads) grid_sample_kernel(const GridSampleCudaCall call, int lanes) {
  using Real = Compute<T>;
  const GridSizes& sizes = call.sizes;
  const bool reduced = call.options.reduction != GridReduction::kNone;
  const int64_t at_once = int64_t(gridDim.x) * (kGridThreads / lanes), texels = sizes.texels();
  for (int64_t point = int64_t(blockIdx.x) * (kGridThreads / lanes) + threadIdx.x / lanes;
       point < sizes.batch * sizes.points; point += at_once) {
    const int64_t b = point / sizes.points, n = point - b * sizes.points;
    for (int64_t channel = int64_t(threadIdx.x) % lanes * kVector<T>; channel < sizes.channels;
         channel += lanes * kVector<T>) {
      Real sums[kVector<T>] = {};
      for (int64_t grid = 0; grid < sizes.grids; ++grid) {
        const PointCorners<Real, Axes> corners(call, point, grid);
        const T* rows = static_cast<const T*>(call.rows) + (b * sizes.grids + grid) * texels * call.row + channel;
#pragma unroll
        for (int corner = 0; corner < 1 << Axes; ++corner) {
          const Vector<T> row = load_vector(rows + corners.texel(corner, sizes) * call.row);
          const Real weight = corners.weight(corner);
#pragma unroll
          for (int i = 0; i < kVector<T>; ++i) sums[i] += weight * static_cast<Real>(row.element[i]);
        }
        if (reduced && grid + 1 < sizes.grids) continue;
#pragma unroll
        for (int i = 0; i < kVector<T>; ++i) sums[i] *= Real(grid_factor(call));
        store_channels(static_cast<T*>(call.output) + output_offset(call, b, grid, n), channel, sizes.channels, sums);
#pragma unroll
        for (int i = 0; i < kVector<T>; ++i) sums[i] = 0;
      }
    }
  }
}

template <class T, int Axes>
__global__ void __launch_bounds__(kGridThreads) grid_point_gradients_kernel(const GridSampleCudaCall call, int lanes) {
  using Real = Compute<T>;
  const GridSizes& sizes = call.sizes;
  const int64_t count = sizes.batch * sizes.points, at_once = int64_t(gridDim.x) * (kGridThreads / lanes);
  const int lane = int(threadIdx.x) % lanes;
  // All lanes of a warp take the same steps: the shuffles want all of them.
  for (int64_t first = int64_t(blockIdx.x) * (kGridThreads / lanes); first < count; first += at_once) {
    const int64_t mine = first + threadIdx.x / lanes, point = mine < count ? mine : count - 1;
    const int64_t b = point / sizes.points, n = point - b * sizes.points;
    Real gradients[3] = {};
    for (int64_t grid = 0; grid < sizes.grids; ++grid) {
      const PointCorners<Real, Axes> corners(call, point, grid);
      const T* rows = static_cast<const T*>(call.rows) + (b * sizes.grids + grid) * sizes.texels() * call.row;
      const T* grad = static_cast<const T*>(call.grad) + output_offset(call, b, grid, n);
      Real along[Axes] = {};
      for (int64_t channel = lane * kVector<T>; channel < sizes.channels; channel += lanes * kVector<T>) {
        Real of_point[kVector<T>];
        load_channels(grad, channel, sizes.channels, of_point);
#pragma unroll
        for (int corner = 0; corner < 1 << Axes; ++corner) {
          const Vector<T> row = load_vector(rows + corners.texel(corner, sizes) * call.row + channel);
          Real product = 0;
#pragma unroll
          for (int i = 0; i < kVector<T>; ++i) product += of_point[i] * static_cast<Real>(row.element[i]);
#pragma unroll
          for (int axis = 0; axis < Axes; ++axis) along[axis] += product * corners.slope(corner, axis);
        }
      }
#pragma unroll
      for (int axis = 0; axis < Axes; ++axis)
#pragma unroll
        for (int coordinate = 0; coordinate < 3; ++coordinate)
          gradients[coordinate] += call.options.axes[grid * Axes + axis] == coordinate ? along[axis] : Real(0);
    }
    for (int other = lanes / 2; other > 0; other /= 2)
#pragma unroll
      for (int coordinate = 0; coordinate < 3; ++coordinate)
        gradients[coordinate] += __shfl_xor_sync(kFullWarp, gradients[coordinate], other);
    if (lane > 0 || mine >= count) continue;
    const Real factor = Real(grid_factor(call) * call.options.point_scale);
    Real* to = static_cast<Real*>(call.grad_points) + point * 3;
#pragma unroll
    for (int coordinate = 0; coordinate < 3; ++coordinate) to[coordinate] = factor * gradients[coordinate];
  }
}

// Points outside have the key behind all cells.
template <class Real, int Axes>
__global__ void __launch_bounds__(kGridThreads) grid_cells_kernel(const GridSampleCudaCall call) {
  const GridSizes& sizes = call.sizes;
  const int64_t count = call.grids_of_all() * sizes.points, cells = call.cells(Axes);
  for (int64_t i = int64_t(blockIdx.x) * kGridThreads + threadIdx.x; i < count;
       i += int64_t(gridDim.x) * kGridThreads) {
    const int64_t of_all = i / sizes.points, n = i - of_all * sizes.points, b = of_all / sizes.grids;
    const PointCorners<Real, Axes> corners(call, b * sizes.points + n, of_all - b * sizes.grids);
    int64_t cell = 0;
    bool outside = false;
#pragma unroll
    for (int axis = Axes - 1; axis >= 0; --axis) {
      const int64_t along = int64_t(corners.along[axis].below) + 1;
      outside |= along < 0 || along > sizes.along[axis];
      cell = cell * (sizes.along[axis] + 1) + along;
    }
    call.keys[i] = outside ? call.grids_of_all() * cells : of_all * cells + cell;
  }
}

}  // namespace cips3d
