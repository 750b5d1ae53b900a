// CPU kernels of sample_planes (Axes = 2) and sample_volume (Axes = 3): compiled once per SIMD level.
//
// Computes  stage: grids to rows of channels. sample: each point's corners' rows, weighted and summed over its grids.
//           grid_gradients: rows += weight * grad, then back to grids. point_gradients: rows . grad, times the slopes.
// Axes      grids [B,P,C,texels], rows [P,texels,C] of one sample, points [B,N,3], output and grad [B,N,C] or [B,P,N,C]
// Launch    stage and the kernels of points: shares of blocks, sample after sample; grid_gradients: shares of (sample,
//           grid, slice of channels), each with sums of its own in the worker's memory
// Traffic   grids are read once and written as rows once; a point reads 2^Axes rows of each grid; grad_grids reads grad
//           once for each grid
// Numerics  weights as in grid_sample_math.h; sums over corners, grids and points in their order
// Limit     rows come from L2 and L3: latency, then their bandwidth
#pragma once
#include "common/grid_sample_cpu_rows.h"

namespace cips3d::CIPS3D_SIMD_NS {

struct VectorToWhole {
  template <class V>
  static CIPS3D_INLINE V toward_zero(V x) {
    using T = decltype(x[0] + 0);
    return __builtin_convertvector(__builtin_convertvector(x, Mask<T>), V);
  }
};

// What a vector of points reads of one grid.
template <class T, int Axes>
struct CornerRows {
  static constexpr int kCorners = 1 << Axes;
  Mask<T> texel[kCorners];
  Vec<T> weight[kCorners];
  AxisCorners<Vec<T>> along[Axes];
};

// The coordinates of points [at, at + lanes) of [N,3] by axis, times the scale; the last point again behind the end.
template <class T>
CIPS3D_INLINE void load_coordinates(const T* points, int64_t at, int64_t count, T scale, Vec<T> (&coordinates)[3]) {
  constexpr int lanes = kLanes<T>;
  alignas(kVectorBytes) T buffer[3][lanes];
  for (int lane = 0; lane < lanes; ++lane)
    for (int axis = 0; axis < 3; ++axis) buffer[axis][lane] = points[min(at + lane, count - 1) * 3 + axis];
  for (int axis = 0; axis < 3; ++axis) coordinates[axis] = scale * load(buffer[axis]);
}

template <class T, int Axes>
CIPS3D_INLINE void find_corners(const Vec<T> (&coordinates)[3], const GridSampleCpuCall& call, int64_t grid,
                                CornerRows<T, Axes>& rows) {
  constexpr int corners = CornerRows<T, Axes>::kCorners;
  for (int axis = 0; axis < Axes; ++axis)
    rows.along[axis] = axis_corners<VectorToWhole>(coordinates[call.options.axes[grid * Axes + axis]],
                                                   grid_axis<T>(call.sizes.along[axis], call.options));
#pragma GCC unroll 8
  for (int corner = 0; corner < corners; ++corner) {
    Mask<T> texel{};
    Vec<T> weight = broadcast(T(1));
    for (int axis = Axes - 1; axis >= 0; --axis) {
      const int side = corner >> axis & 1;
      const Mask<T> along = __builtin_convertvector(rows.along[axis].texel[side], Mask<T>);
      texel = texel * static_cast<decltype(along[0] + 0)>(call.sizes.along[axis]) + along;
      weight *= rows.along[axis].weight[side];
    }
    rows.texel[corner] = texel;
    rows.weight[corner] = weight;
  }
}

template <int N>
struct Vectors {
  static constexpr int count = N;
};

// Calls body(Vectors<n>, first channel) so that whole vectors cover `channels`.
template <class T, class Body>
CIPS3D_INLINE void for_channels(int64_t channels, const Body& body) {
  constexpr int lanes = kLanes<T>;
  int64_t channel = 0;
  for (; channel + 3 * lanes < channels; channel += 4 * lanes) body(Vectors<4>{}, channel);
  for (; channel + lanes < channels; channel += 2 * lanes) body(Vectors<2>{}, channel);
  for (; channel < channels; channel += lanes) body(Vectors<1>{}, channel);
}

// sums += the corners' rows, weighted, from `channel` on.
template <class S, int Axes, int kCount>
CIPS3D_INLINE void add_rows(const CornerRows<Compute<S>, Axes>& corners, int lane, const S* rows, int64_t row,
                            int64_t channel, Vec<Compute<S>> (&sums)[kCount]) {
  using T = Compute<S>;
#pragma GCC unroll 8
  for (int corner = 0; corner < corners.kCorners; ++corner) {
    const S* from = rows + static_cast<int64_t>(corners.texel[corner][lane]) * row + channel;
    const T weight = corners.weight[corner][lane];
#pragma GCC unroll 4
    for (int v = 0; v < kCount; ++v) sums[v] += weight * load(from + v * kLanes<T>);
  }
}

template <class S, int Axes>
void stage_grids(const GridSampleCpuCall& call, int64_t b, int64_t first_block, int64_t last_block) {
  const GridSizes& sizes = call.sizes;
  const int64_t texels = sizes.texels(), per_grid = (texels + kBlockTexels - 1) / kBlockTexels;
  for (int64_t block = first_block; block < last_block; ++block) {
    const int64_t grid = block / per_grid, first = block % per_grid * kBlockTexels;
    grid_to_rows(static_cast<const S*>(call.grids) + (b * sizes.grids + grid) * sizes.channels * texels,
                 static_cast<S*>(call.rows) + grid * call.padded_texels() * call.row(), sizes.channels, texels,
                 call.row(), first, min(first + kBlockTexels, texels));
  }
}

// Calls body(first point, number of points, coordinates) for each vector of points in blocks of kPointsAtOnce.
template <class T, class Body>
CIPS3D_INLINE void for_points(const GridSampleCpuCall& call, int64_t b, int64_t first_block, int64_t last_block,
                              const Body& body) {
  const int64_t count = call.sizes.points, last = min(last_block * kPointsAtOnce, count);
  const T* points = static_cast<const T*>(call.points) + b * count * 3;
  for (int64_t at = first_block * kPointsAtOnce; at < last; at += kLanes<T>) {
    Vec<T> coordinates[3];
    load_coordinates(points, at, count, static_cast<T>(call.options.point_scale), coordinates);
    body(at, static_cast<int>(min(kLanes<T>, count - at)), coordinates);
  }
}

// What a gradient of the output is multiplied by on its way to each grid.
CIPS3D_INLINE double grid_factor(const GridSampleCpuCall& call) {
  return call.options.reduction == GridReduction::kMean ? 1.0 / static_cast<double>(call.sizes.grids) : 1.0;
}

// Offset of what belongs to point n and a grid in the output [B,N,C], or [B,P,N,C] without a reduction.
CIPS3D_INLINE int64_t output_offset(const GridSampleCpuCall& call, int64_t b, int64_t grid, int64_t n) {
  const GridSizes& sizes = call.sizes;
  const int64_t group = call.options.reduction == GridReduction::kNone ? b * sizes.grids + grid : b;
  return (group * sizes.points + n) * sizes.channels;
}

template <class S, int Axes>
void sample_points(const GridSampleCpuCall& call, int64_t b, int64_t first_block, int64_t last_block) {
  using T = Compute<S>;
  const GridSizes& sizes = call.sizes;
  const int64_t row = call.row(), grid_rows = call.padded_texels() * row;
  const int64_t together = call.options.reduction == GridReduction::kNone ? 1 : sizes.grids;  // grids of one output
  const T factor = static_cast<T>(grid_factor(call));
  const S* rows = static_cast<const S*>(call.rows);
  const Scratch<CornerRows<T, Axes>> corners(sizes.grids);
  for_points<T>(call, b, first_block, last_block, [&](int64_t at, int count, const Vec<T>(&coordinates)[3]) {
    for (int64_t grid = 0; grid < sizes.grids; ++grid) find_corners(coordinates, call, grid, corners[grid]);
    for (int64_t group = 0; group < sizes.grids; group += together)
      for (int lane = 0; lane < count; ++lane) {
        S* to = static_cast<S*>(call.output) + output_offset(call, b, group, at + lane);
        for_channels<T>(sizes.channels, [&](auto vectors, int64_t channel) {
          Vec<T> sums[vectors.count] = {};
          for (int64_t grid = group; grid < group + together; ++grid)
            add_rows<S, Axes>(corners[grid], lane, rows + grid * grid_rows, row, channel, sums);
          for (int v = 0; v < vectors.count; ++v) {
            const int64_t first = channel + v * kLanes<T>;
            store_first(to + first, sizes.channels - first, factor * sums[v]);
          }
        });
      }
  });
}

template <class S, int Axes>
void grid_gradients(const GridSampleCpuCall& call, int64_t worker, int64_t first_task, int64_t last_task) {
  using T = Compute<S>;
  const GridSizes& sizes = call.sizes;
  const int64_t slice = call.slice(), texels = sizes.texels(),
                blocks = (sizes.points + kPointsAtOnce - 1) / kPointsAtOnce;
  T* sums = static_cast<T*>(call.sums) + worker * call.padded_texels() * slice;
  CornerRows<T, Axes> corners;
  for (int64_t task = first_task; task < last_task; ++task) {
    const int64_t first = task % call.slices() * slice, grid = task / call.slices() % sizes.grids;
    const int64_t b = task / call.slices() / sizes.grids, channels = min(slice, sizes.channels - first);
    __builtin_memset(sums, 0, static_cast<size_t>(call.padded_texels() * slice) * sizeof(T));
    for_points<T>(call, b, 0, blocks, [&](int64_t at, int count, const Vec<T>(&coordinates)[3]) {
      find_corners(coordinates, call, grid, corners);
      for (int lane = 0; lane < count; ++lane) {
        const S* grad = static_cast<const S*>(call.grad) + output_offset(call, b, grid, at + lane) + first;
        for_channels<T>(slice, [&](auto vectors, int64_t channel) {
          Vec<T> of_point[vectors.count];
          for (int v = 0; v < vectors.count; ++v)
            of_point[v] = load_first(grad + channel + v * kLanes<T>, channels - channel - v * kLanes<T>);
#pragma GCC unroll 8
          for (int corner = 0; corner < corners.kCorners; ++corner) {
            T* to = sums + static_cast<int64_t>(corners.texel[corner][lane]) * slice + channel;
            const T weight = corners.weight[corner][lane];
#pragma GCC unroll 4
            for (int v = 0; v < vectors.count; ++v)
              store(to + v * kLanes<T>, load(to + v * kLanes<T>) + weight * of_point[v]);
          }
        });
      }
    });
    S* grad_grid = static_cast<S*>(call.grad_grids) + ((b * sizes.grids + grid) * sizes.channels + first) * texels;
    rows_to_grid(sums, grad_grid, channels, texels, slice, static_cast<T>(grid_factor(call)));
  }
}

// The gradient of the coordinates along one axis of a grid, from that of each corner's weight.
template <class T, int Axes>
CIPS3D_INLINE Vec<T> along_gradient(const CornerRows<T, Axes>& corners, int axis, const Vec<T>* of_weights) {
  Vec<T> gradient{};
  for (int corner = 0; corner < corners.kCorners; ++corner) {
    Vec<T> term = of_weights[corner];
    for (int other = 0; other < Axes; ++other) {
      const AxisCorners<Vec<T>>& along = corners.along[other];
      term *= other == axis ? along.slope[corner >> other & 1] : along.weight[corner >> other & 1];
    }
    gradient += term;
  }
  return gradient;
}

template <class S, int Axes>
void point_gradients(const GridSampleCpuCall& call, int64_t b, int64_t first_block, int64_t last_block) {
  using T = Compute<S>;
  const GridSizes& sizes = call.sizes;
  const int64_t row = call.row(), grid_rows = call.padded_texels() * row;
  const T factor = static_cast<T>(grid_factor(call) * call.options.point_scale);
  CornerRows<T, Axes> corners;
  Vec<T> of_weights[CornerRows<T, Axes>::kCorners];
  for_points<T>(call, b, first_block, last_block, [&](int64_t at, int count, const Vec<T>(&coordinates)[3]) {
    Vec<T> gradients[3] = {};
    for (int64_t grid = 0; grid < sizes.grids; ++grid) {
      find_corners(coordinates, call, grid, corners);
      const S* rows = static_cast<const S*>(call.rows) + grid * grid_rows;
      for (int corner = 0; corner < corners.kCorners; ++corner) {
        of_weights[corner] = Vec<T>{};
        for (int lane = 0; lane < count; ++lane) {
          const S* grad = static_cast<const S*>(call.grad) + output_offset(call, b, grid, at + lane);
          const S* from = rows + static_cast<int64_t>(corners.texel[corner][lane]) * row;
          Vec<T> products{};
          for (int64_t channel = 0; channel < sizes.channels; channel += kLanes<T>)
            products += load_first(grad + channel, sizes.channels - channel) * load(from + channel);
          of_weights[corner][lane] = sum(products);
        }
      }
      for (int axis = 0; axis < Axes; ++axis)
        gradients[call.options.axes[grid * Axes + axis]] += along_gradient(corners, axis, of_weights);
    }
    T* to = static_cast<T*>(call.grad_points) + (b * sizes.points + at) * 3;
    for (int lane = 0; lane < count; ++lane)
      for (int axis = 0; axis < 3; ++axis) to[lane * 3 + axis] = factor * gradients[axis][lane];
  });
}

template <class S, int Axes>
constexpr GridSampleCpuKernels grid_sample_kernels_of() {
  return {stage_grids<S, Axes>, sample_points<S, Axes>, point_gradients<S, Axes>, grid_gradients<S, Axes>};
}

// By CpuDtype.
template <int Axes>
inline constexpr GridSampleCpuKernels kGridSampleKernels[kCpuDtypes] = {
    grid_sample_kernels_of<double, Axes>(), grid_sample_kernels_of<float, Axes>(),
    grid_sample_kernels_of<bfloat16, Axes>(), grid_sample_kernels_of<float16, Axes>()};

}  // namespace cips3d::CIPS3D_SIMD_NS
