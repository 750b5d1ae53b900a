// Samples along rays as the CUDA kernels that integrate them get them.
#pragma once
#include "common/volume_render_math.h"

namespace cips3d {

// R rays, S samples, C features, n intervals, contiguous but for feature_stride; null: not given.
template <class Element>
struct VolumeRenderInputs {
  const Element* density;   // [R,S]
  const Element* features;  // [R,S,C]
  const Element* depths;    // [R,S]
  const Element* noise;     // [R,S]
  const Element* beta;      // [1]
  const Element* ray_norm;  // [R]
  VolumeRenderSizes sizes;
  VolumeRenderOptions options;
};

}  // namespace cips3d
