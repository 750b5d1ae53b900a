// Linear interpolation between the texels of a grid, as math for host and device: what sample_planes (bilinear) and
// sample_volume (trilinear) share. As torch's grid_sample:
//
//   position = (x + 1) scale - shift        align_corners: scale = (size - 1) / 2, shift = 0;  else size / 2 and 1/2
//   texels floor(position) and the next, with weights 1 - t and t, t = position - floor(position); none outside the
//   grid. Border padding first moves position into [0, size - 1], with derivative 0 where it was not inside.
//
// Axes: along 0, 1 (, 2) are x, y (, z), the last, last but one ... axis of a grid in memory. Corner k of a cell is the
// upper texel along those axes whose bit of k is set.
#pragma once
#include <cstdint>

#include "common/host_device.h"

namespace cips3d {

inline constexpr int kMostGrids = 64;  // of one point: their axes are an argument of kernels
inline constexpr int kMostGridAxes = 3;
inline constexpr int kPlaneAxes = 2, kVolumeAxes = 3;

enum class GridReduction : int { kMean, kSum, kNone };

// grids [B,P,C,texels], points [B,N,3] -> [B,N,C], or [B,P,N,C] without a reduction.
struct GridSizes {
  int64_t batch, grids, channels, points;
  int64_t along[kMostGridAxes];  // texels along x, y, z

  CIPS3D_HOST_DEVICE int64_t texels() const { return along[0] * along[1] * along[2]; }
};

struct GridOptions {
  double point_scale;
  bool align_corners, border;
  GridReduction reduction;
  uint8_t axes[kMostGrids * kMostGridAxes];  // [P, axes of a grid]: the coordinate of a point that runs along each
};

// One axis as positions along it see it.
template <class Real>
struct GridAxis {
  Real scale, shift, last;
  bool border;
};

template <class Real>
CIPS3D_HOST_DEVICE GridAxis<Real> grid_axis(int64_t size, const GridOptions& options) {
  const Real last = static_cast<Real>(size - 1);
  if (options.align_corners) return {last / 2, Real(0), last, options.border};
  return {static_cast<Real>(size) / 2, Real(0.5), last, options.border};
}

// The two texels that a point reads along an axis, their weights, and the weights' derivatives by the coordinate. Of
// Reals, or of vectors of them.
template <class V>
struct AxisCorners {
  V below;  // where the lower texel lies, in the grid or not; all weights are 0 below -1 and above the last texel
  V texel[2], weight[2], slope[2];
};

// Whole numbers of small ones. The CPU kernels have one of vectors.
struct ScalarToWhole {
  static CIPS3D_HOST_DEVICE float toward_zero(float x) { return static_cast<float>(static_cast<int32_t>(x)); }
  static CIPS3D_HOST_DEVICE double toward_zero(double x) { return static_cast<double>(static_cast<int32_t>(x)); }
};

// A NaN coordinate has weights NaN.
template <class ToWhole, class V, class Real>
CIPS3D_HOST_DEVICE AxisCorners<V> axis_corners(V coordinate, const GridAxis<Real>& axis) {
  const V zero{}, last = zero + axis.last, full = zero + axis.scale;
  V position = (coordinate + Real(1)) * axis.scale - axis.shift, slope = full;
  if (axis.border) {
    slope = (position > zero) & (position < last) ? full : zero;
    position = position < zero ? zero : position;
    position = position > last ? last : position;
  }
  // Two texels beyond the grid all weights are 0: so far numbers are small enough for integers.
  const V lowest = zero - Real(2), highest = last + Real(2);
  V near = position < lowest ? lowest : position;
  near = near > highest ? highest : near;
  near = near != near ? zero : near;
  const V toward = ToWhole::toward_zero(near), below = toward > near ? toward - Real(1) : toward;
  const V above = below + Real(1), t = position - below;
  const auto below_outside = (below < zero) | (below > last), above_outside = (above < zero) | (above > last);
  AxisCorners<V> corners;
  corners.below = below;
  corners.texel[0] = below_outside ? zero : below;
  corners.texel[1] = above_outside ? zero : above;
  corners.weight[0] = below_outside ? zero : Real(1) - t;
  corners.weight[1] = above_outside ? zero : t;
  corners.slope[0] = below_outside ? zero : zero - slope;
  corners.slope[1] = above_outside ? zero : slope;
  return corners;
}

}  // namespace cips3d
