// Where rays are sampled, as scalar math for host and device, and the sizes and options that kernels get by value. The
// field is in common/siren.h; importance sampling, merging and integration are in common/.
#pragma once
#include "common/volume_render_math.h"

namespace cips3d {

constexpr int64_t kFewestSamples = 2;              // a spacing needs two
constexpr int64_t kFewestSamplesHierarchical = 3;  // importance sampling takes the inner weights

// Added to the coarse weights before sampling, so that empty rays still spread their samples; and what sampling adds
// itself.
constexpr double kWeightFloor = 1e-5;
constexpr double kPdfEps = 1e-5;

// [batch, rays] rays of `coarse` stratified samples, and `fine` importance samples (0: none).
struct RenderRaysSizes {
  int64_t batch;
  int64_t rays;
  int64_t coarse;
  int64_t fine;

  CIPS3D_HOST_DEVICE int64_t samples() const { return coarse + fine; }
};

struct RenderRaysOptions {
  double near;
  double far;
  DensityActivation activation;
  // Of the final integration:
  bool last_back;
  int64_t white_channels;
};

// Depth of sample i of `count`: evenly spaced as torch.linspace does it (from either end, so that both are exact),
// moved within its own interval by jitter in [0,1).
template <class Num>
CIPS3D_HOST_DEVICE Num even_depth(Num near, Num far, int64_t i, int64_t count) {
  const Num step = (far - near) / Num(count - 1);
  return i < count / 2 ? near + step * Num(i) : far - step * Num(count - 1 - i);
}

template <class Num>
CIPS3D_HOST_DEVICE Num stratified_depth(Num near, Num far, int64_t i, int64_t count, Num jitter) {
  const Num spacing = even_depth(near, far, int64_t{1}, count) - even_depth(near, far, int64_t{0}, count);
  return even_depth(near, far, i, count) + (jitter - Num(0.5)) * spacing;
}

// The coarse pass's integration (weights alone) or the final one.
inline VolumeRenderOptions integration_options(const RenderRaysOptions& o, bool final) {
  VolumeRenderOptions options = volume_render_defaults();
  options.activation = o.activation;
  options.last_back = final && o.last_back;
  options.white_channels = final ? o.white_channels : 0;
  return options;
}

}  // namespace cips3d
