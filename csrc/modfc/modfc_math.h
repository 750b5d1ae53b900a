// ModFC's math around its matrix products, for one element. `Num` is a scalar (CUDA, emulator) or a vector of lanes
// (CPU).
//
//   m = scale * (style + style_offset) [B,I]           the modulation
//   d = rsqrt(sum_i (W[o,i] m[b,i])^2 + eps), or 1     the demodulation [B,O]
//   linear = (x * m) W^T                               one weight matrix for the batch: scaling x replaces scaling W
//   y = clamp(gain * act(d * linear + noise + bias)) + skip
//   rgb = y to_rgb^T                                   of y before it is rounded
#pragma once
#include <cstdint>

#include "common/host_device.h"

namespace cips3d {

// x [B,N,I], weight [O,I], style [B,I], bias [O], noise [B,N,O], skip [B,N,O], to_rgb [K,O] -> y [B,N,O], rgb [B,N,K].
struct ModfcSizes {
  int64_t batch;
  int64_t points;
  int64_t inputs;
  int64_t outputs;
  int64_t colours;  // K, 0 without to_rgb
};

inline constexpr int kModfcMostColours = 4;  // kernels hold a sum of each in registers

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

// A byte that says where on piecewise linear act and clamp an element is, as a sum of these.
inline constexpr int kModfcBelow = 1;  // u <= 0: the slope below
inline constexpr int kModfcCut = 2;    // beyond clamp

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
  const Num below = (u < 0) & (slope == 0) ? Num{} : slope * u;  // relu of -infinity is 0; NaN stays NaN
  return u > 0 ? u : below;
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

// d's gradient, times d, as that of q = sum_i (W m)^2, since d = (q + eps)^(-1/2).
template <class Num>
CIPS3D_HOST_DEVICE Num modfc_grad_square_sum(Num d_grad_d, Num d) {
  return -d_grad_d * (d * d) / 2;
}

}  // namespace cips3d
