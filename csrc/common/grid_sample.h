// Contract of sample_planes and sample_volume: what their arguments are, checked once for the CPU and the CUDA library.
// The math is in grid_sample_math.h.
//
// Axes: B batch, P grids of a point, C channels, N points, K axes of a grid.
//   grids [B,P,C,H,W] or [B,C,D,H,W] (P = 1); points [B,N,3] in the type that the grids are computed in
//   -> [B,N,C] or [B,P,N,C] in the dtype of the grids, contiguous
#pragma once
#include "common/check.h"
#include "common/grid_sample_math.h"

namespace cips3d {

// One checked call. Tensors are contiguous.
struct GridSampleCall {
  Tensor grids, points;
  GridSizes sizes;
  GridOptions options;

  std::vector<int64_t> output_shape() const {
    if (options.reduction != GridReduction::kNone) return {sizes.batch, sizes.points, sizes.channels};
    return {sizes.batch, sizes.grids, sizes.points, sizes.channels};
  }
};

using GridSampleGradients = std::tuple<Tensor, Tensor>;  // of the grids, of the points
enum GridSampleGradient : int { kGridGradGrids, kGridGradPoints };

inline bool is_border(const char* op, const std::string& padding) {
  STD_TORCH_CHECK(padding == "zeros" || padding == "border", op, ": padding must be zeros or border, got ", padding);
  return padding == "border";
}

inline GridReduction grid_reduction(const char* op, const std::string& name) {
  if (name == "mean") return GridReduction::kMean;
  if (name == "sum") return GridReduction::kSum;
  STD_TORCH_CHECK(name == "none", op, ": reduce must be mean, sum or none, got ", name);
  return GridReduction::kNone;
}

// `axes` holds, grid by grid, the coordinate of a point along each of the grid's axes; `along` the texels along them.
inline GridSampleCall make_grid_sample_call(const char* op, const char* name, const Tensor& grids, const Tensor& points,
                                            GridSizes sizes, const std::vector<int64_t>& axes, GridOptions options) {
  constexpr int64_t kMostAlong = int64_t{1} << 24, kMostTexels = int64_t{1} << 31;  // exact in float; in 32 bits
  check_floating(op, name, grids);
  sizes.batch = grids.size(0);
  check_dimensions(op, "points", points, 3, "[B,N,3]");
  sizes.points = points.size(1);
  check_shape(op, "points", points, {sizes.batch, sizes.points, 3}, "[B,N,3] with the B of the grids");
  const ScalarType type = computing_type(grids.scalar_type());
  STD_TORCH_CHECK(points.scalar_type() == type, op, ": points must be ", type, " beside ", name, " of ",
                  grids.scalar_type(), ", got ", points.scalar_type());
  STD_TORCH_CHECK(points.is_cuda() == grids.is_cuda() && points.get_device_index() == grids.get_device_index(), op,
                  ": points must be on the device of ", name, "; move one of them");
  for (const int64_t along : sizes.along)
    STD_TORCH_CHECK(along >= 1 && along <= kMostAlong && sizes.texels() < kMostTexels, op, ": ", name,
                    " must have 1 to 2^24 texels along each axis and less than 2^31 in all, got ", shape_text(grids));
  STD_TORCH_CHECK(sizes.grids >= 1 && sizes.grids <= kMostGrids, op, ": ", name, " must hold 1 to ", kMostGrids,
                  " planes a sample, got ", shape_text(grids), "; use impl=\"reference\" for more");
  for (size_t i = 0; i < axes.size(); ++i) {
    STD_TORCH_CHECK(axes[i] >= 0 && axes[i] < 3, op, ": axes must be coordinates 0, 1 or 2, got ", axes[i]);
    options.axes[i] = static_cast<uint8_t>(axes[i]);
  }
  return {as_contiguous(grids), as_contiguous(points), sizes, options};
}

inline void check_grid_sample_gradient(const char* op, const GridSampleCall& call, const Tensor& grad) {
  check_shape(op, "grad", grad, call.output_shape(), "like the output");
  check_like(op, "grad", grad, "the grids", call.grids);
}

}  // namespace cips3d
