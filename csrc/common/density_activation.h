// The activation's name in the dispatcher schemas of volume_render and render_rays.
#pragma once
#include "common/stable.h"
#include "common/volume_render_math.h"

namespace cips3d {

inline DensityActivation parse_activation(const char* op, const std::string& name) {
  if (name == "none") return DensityActivation::kNone;
  if (name == "relu") return DensityActivation::kRelu;
  if (name == "softplus") return DensityActivation::kSoftplus;
  STD_TORCH_CHECK(name == "sdf", op, ": activation must be none, relu, softplus or sdf, got ", name);
  return DensityActivation::kSdf;
}

}  // namespace cips3d
