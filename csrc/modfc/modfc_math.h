// ModFC's math around its matrix products, for one element. `Num` is a scalar (CUDA, emulator) or a vector of lanes
// (CPU).
//
//   m = scale * (style + style_offset) [B,I]           the modulation
//   d = rsqrt(sum_i (W[o,i] m[b,i])^2 + eps), or 1     the demodulation [B,O]
//   linear = (x * m) W^T                               one weight matrix for the whole batch: scaling x replaces
//   scaling W y = clamp(gain * act(d * linear + noise + bias))
#pragma once
#include <cstdint>

#include "common/host_device.h"

namespace cips3d {

// x [B,N,I], weight [O,I], style [B,I], bias [O], noise [B,N,O] -> y [B,N,O].
struct ModfcSizes {
  int64_t batch;
  int64_t points;
  int64_t inputs;
  int64_t outputs;
};

enum class ModfcActivation : int { kLinear, kLeakyRelu, kRelu, kSin };

struct ModfcOptions {
  double scale;
  double style_offset;
  bool demodulate;
  double eps;
  ModfcActivation activation;
  double alpha;  // slope of kLeakyRelu below 0
  double gain;
  bool has_clamp;
  double clamp;
};

// Elements of a noise tensor between neighbours along B, N and O; 0 where it is expanded.
struct ModfcNoiseStrides {
  int64_t batch;
  int64_t points;
  int64_t outputs;
};

// Linear, leaky relu and relu as one function: u for u > 0, slope * u below.
CIPS3D_HOST_DEVICE double modfc_slope(const ModfcOptions& options) {
  switch (options.activation) {
    case ModfcActivation::kLeakyRelu:
      return options.alpha;
    case ModfcActivation::kRelu:
      return 0.0;
    default:
      return 1.0;
  }
}
template <class Num>
CIPS3D_HOST_DEVICE Num modfc_piecewise_linear(Num u, Num slope) {
  return u > 0 ? u : slope * u;
}
template <class Num>
CIPS3D_HOST_DEVICE Num modfc_piecewise_linear_grad(Num u, Num slope, Num one) {
  return u > 0 ? one : slope;
}

// NaN stays NaN.
template <class Num>
CIPS3D_HOST_DEVICE Num modfc_clamp(Num v, Num limit) {
  const Num below = v > limit ? limit : v;
  return below < -limit ? -limit : below;
}
// The gradient passes where v was not cut, both limits included, as in torch.clamp.
template <class Num>
CIPS3D_HOST_DEVICE Num modfc_clamp_grad(Num grad, Num v, Num limit) {
  const Num below = v > limit ? Num{} : grad;
  return v < -limit ? Num{} : below;
}

// d's gradient as that of q = sum_i (W m)^2, since d = (q + eps)^(-1/2).
template <class Num>
CIPS3D_HOST_DEVICE Num modfc_grad_square_sum(Num grad_d, Num d) {
  return -grad_d * (d * d * d) / 2;
}

}  // namespace cips3d
