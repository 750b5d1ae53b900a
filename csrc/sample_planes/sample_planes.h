// Contract of sample_planes: planes [B,P,C,H,W], points [B,N,3] and two axes for each plane -> [B,N,C], or [B,P,N,C]
// without a reduction. What is checked and computed is in common/grid_sample.h.
//
// Each library registers  m.impl("sample_planes", TORCH_BOX(&sample_planes_entry<forward>))  with functions of the
// checked GridSampleCall.
#pragma once
#include "common/grid_sample.h"

namespace cips3d {

inline GridSampleCall make_sample_planes_call(const Tensor& planes, const Tensor& points,
                                              const std::vector<int64_t>& axes, double point_scale, bool align_corners,
                                              const std::string& padding, const std::string& reduce) {
  constexpr const char* op = "sample_planes";
  check_dimensions(op, "planes", planes, 5, "[B,P,C,H,W]");
  const GridSizes sizes{0, planes.size(1), planes.size(2), 0, {planes.size(4), planes.size(3), 1}};
  STD_TORCH_CHECK(static_cast<int64_t>(axes.size()) == kPlaneAxes * sizes.grids, op,
                  ": axes must hold two coordinates for each of ", sizes.grids, " planes, got ", axes.size());
  return make_grid_sample_call(op, "planes", planes, points, sizes, axes,
                               {point_scale, align_corners, is_border(op, padding), grid_reduction(op, reduce), {}});
}

template <Tensor (*Forward)(const GridSampleCall&)>
Tensor sample_planes_entry(Tensor planes, Tensor points, std::vector<int64_t> axes, double point_scale,
                           bool align_corners, StringArgument padding, StringArgument reduce) {
  const std::string padding_name = padding.take(), reduce_name = reduce.take();
  return Forward(make_sample_planes_call(planes, points, axes, point_scale, align_corners, padding_name, reduce_name));
}

// Backward: (call, grad contiguous, grad_mask).
template <GridSampleGradients (*Backward)(const GridSampleCall&, const Tensor&, int64_t)>
GridSampleGradients sample_planes_backward_entry(Tensor grad, Tensor planes, Tensor points, std::vector<int64_t> axes,
                                                 double point_scale, bool align_corners, StringArgument padding,
                                                 StringArgument reduce, int64_t grad_mask) {
  const std::string padding_name = padding.take(), reduce_name = reduce.take();
  const GridSampleCall call =
      make_sample_planes_call(planes, points, axes, point_scale, align_corners, padding_name, reduce_name);
  check_grid_sample_gradient("sample_planes_backward", call, grad);
  return Backward(call, as_contiguous(grad), grad_mask);
}

}  // namespace cips3d
