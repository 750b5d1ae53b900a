// The FiLM-sine layer's math after the linear map, for one channel of one point. `Num` is a scalar (CUDA, emulator) or
// a vector of lanes (CPU).
//
//   y = sin(g * linear + h),  linear = x W^T + bias,  g = gamma_scale * gamma + gamma_offset (1 without gamma),
//   h = beta_scale * beta (0 without beta)
#pragma once
#include <cstdint>

#include "common/host_device.h"

namespace cips3d {

// x [B,N,I], weight [O,I], bias [O], gamma and beta [B,O] -> y [B,N,O].
struct FilmSineSizes {
  int64_t batch;
  int64_t points;
  int64_t inputs;
  int64_t outputs;
};

struct FilmSineOptions {
  double gamma_scale;
  double gamma_offset;
  double beta_scale;
};

// The sine's argument.
template <class Num>
CIPS3D_HOST_DEVICE Num film_phase(Num linear, Num g, Num h) {
  return g * linear + h;
}

// The gradients. One element's grad_h = grad_y * cos(phase), grad_g = grad_h * linear, grad_linear = grad_h * g. Summed
// over the points, grad_beta = beta_scale * sum grad_h and grad_gamma = gamma_scale * sum grad_g; grad_x, grad_weight
// and grad_bias are the linear map's under grad_linear.
//
// The second derivatives, as the gradients of sum grad_y * dy. In a direction dx, dgamma, dbeta the layer has
//   dlinear = dx W^T,  dg = gamma_scale * dgamma,  dh = beta_scale * dbeta,
//   dphase = g * dlinear + dg * linear + dh,  dy = cos(phase) * dphase,
// so grad_grad_y = dy, grad_dphase = grad_y * cos(phase), grad_phase = -grad_y * dphase * sin(phase) and
//   grad_linear = grad_phase * g + grad_dphase * dg,  grad_dlinear = grad_dphase * g,
//   grad_g = grad_phase * linear + grad_dphase * dlinear,  grad_h = grad_phase,
//   grad_x = grad_linear W,  grad_weight = grad_linear^T x + grad_dlinear^T dx,  grad_bias = sum grad_linear.

}  // namespace cips3d
