// Contract of sample_volume: volume [B,C,D,H,W], points [B,N,3] -> [B,N,C]. What is checked and computed is in
// common/grid_sample.h.
//
// Each library registers  m.impl("sample_volume", TORCH_BOX(&sample_volume_entry<forward>))  with functions of the
// checked GridSampleCall.
#pragma once
#include "common/grid_sample.h"

namespace cips3d {

inline GridSampleCall make_sample_volume_call(const Tensor& volume, const Tensor& points, double point_scale,
                                              bool align_corners, const std::string& padding) {
  constexpr const char* op = "sample_volume";
  check_dimensions(op, "volume", volume, 5, "[B,C,D,H,W]");
  const GridSizes sizes{0, 1, volume.size(1), 0, {volume.size(4), volume.size(3), volume.size(2)}};
  return make_grid_sample_call(op, "volume", volume, points, sizes, {0, 1, 2},
                               {point_scale, align_corners, is_border(op, padding), GridReduction::kSum, {}});
}

template <Tensor (*Forward)(const GridSampleCall&)>
Tensor sample_volume_entry(Tensor volume, Tensor points, double point_scale, bool align_corners,
                           StringArgument padding) {
  return Forward(make_sample_volume_call(volume, points, point_scale, align_corners, padding.take()));
}

// Backward: (call, grad contiguous, grad_mask).
template <GridSampleGradients (*Backward)(const GridSampleCall&, const Tensor&, int64_t)>
GridSampleGradients sample_volume_backward_entry(Tensor grad, Tensor volume, Tensor points, double point_scale,
                                                 bool align_corners, StringArgument padding, int64_t grad_mask) {
  const GridSampleCall call = make_sample_volume_call(volume, points, point_scale, align_corners, padding.take());
  check_grid_sample_gradient("sample_volume_backward", call, grad);
  return Backward(call, as_contiguous(grad), grad_mask);
}

}  // namespace cips3d
