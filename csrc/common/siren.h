// A FiLM-SIREN field as plain numbers, for host and device: its layers, and where each layer's values lie in the flat
// tensors of the ops that take a field (siren_field, render_rays).
//
//   x_0 = point_scale * point;  x_k = sine layer k of x_{k-1};  density = linear map of the last trunk layer
//   features = linear map of the colour layer, sine layer of [direction, x]; of x itself if there is no colour layer
//   sine layer: sin(g * (x W^T + bias) + h), g = gamma_scale * gamma + gamma_offset (1 without gamma),
//   h = beta_scale * beta (0 without beta)
//
// parameters: per trunk layer weight [O,I], bias [O]; density weight [1,I], bias [1]; colour weight, bias; feature
// weight [C,I], bias [C]. gamma, beta [B, films]: the sine layers' channels one layer after the other, colour last.
#pragma once
#include <cstdint>

#include "common/host_device.h"

namespace cips3d {

inline constexpr int kSirenMostTrunkLayers = 8;  // pi-GAN's
inline constexpr int kSirenMostSineLayers = kSirenMostTrunkLayers + 1;
inline constexpr int64_t kSirenCoordinates = 3;  // of a point and of a direction

struct SirenLayer {
  int64_t inputs;
  int64_t outputs;
  int64_t weight;  // first element in parameters
  int64_t bias;
  int64_t film;  // sine layers: first column in gamma and beta
};

struct SirenNetwork {
  int trunk_layers;
  bool has_colour;
  bool view_directions;                   // the colour layer's first inputs are a direction
  SirenLayer sine[kSirenMostSineLayers];  // the trunk, then the colour layer
  SirenLayer density;                     // 1 output
  SirenLayer feature;                     // 0 outputs: density alone
  int64_t parameters;                     // elements of all layers
  int64_t films;                          // channels of all sine layers
  double point_scale, gamma_scale, gamma_offset, beta_scale;

  CIPS3D_HOST_DEVICE int sine_layers() const { return trunk_layers + has_colour; }
  CIPS3D_HOST_DEVICE const SirenLayer& last_trunk() const { return sine[trunk_layers - 1]; }
  CIPS3D_HOST_DEVICE const SirenLayer& colour() const { return sine[trunk_layers]; }
};

}  // namespace cips3d
