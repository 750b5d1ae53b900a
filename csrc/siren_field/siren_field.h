// Contract of siren_field: what its arguments are, checked once for the CPU and the CUDA library. The field's layers
// and the layout of the flat tensors are in common/siren.h.
//
// Axes: B batch, N points, R directions, C features, F channels of all sine layers, P parameters.
//   points [B,N,3], parameters [P], gamma and beta [B,F], directions [B,R,3] (point n has direction n / (N / R)), one
//   dtype, one device -> features [B,N,C] and density [B,N] of that dtype, contiguous
//
// Each library registers  m.impl("siren_field", TORCH_BOX(&siren_field_entry<siren_field_cpu>))  with functions of the
// checked SirenFieldCall.
#pragma once
#include "common/siren_checks.h"

namespace cips3d {

// One checked call. Tensors are contiguous.
struct SirenFieldCall {
  Tensor points, parameters;
  std::optional<Tensor> gamma, beta, directions;
  SirenNetwork network;
  int64_t batch, count;          // B, N
  int64_t points_per_direction;  // N / R; N without directions
  bool reduced_precision;        // float32 products may round their operands as TF32 does
};

using SirenFieldOutputs = std::tuple<Tensor, Tensor>;                            // features, density
using SirenFieldGradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;  // by SirenFieldGradient

// Positions in grad_mask and in the tuple that siren_field_backward returns.
enum SirenFieldGradient : int {
  kSirenGradPoints,
  kSirenGradParameters,
  kSirenGradGamma,
  kSirenGradBeta,
  kSirenGradDirections
};

inline SirenFieldCall make_siren_field_call(const Tensor& points, const Tensor& parameters,
                                            const std::optional<Tensor>& gamma, const std::optional<Tensor>& beta,
                                            const std::optional<Tensor>& directions, const SirenOptions& options,
                                            bool reduced_precision) {
  constexpr const char* op = "siren_field";
  check_floating(op, "points", points);
  check_dimensions(op, "points", points, 3, "[B,N,3]");
  const int64_t batch = points.size(0), count = points.size(1);
  check_shape(op, "points", points, {batch, count, kSirenCoordinates}, "[B,N,3]");
  const SirenNetwork network = make_siren_network(op, options);
  check_siren(op, network, parameters, gamma, beta, batch, "points", points);
  int64_t per_direction = count;
  if (directions) {
    check_dimensions(op, "directions", *directions, 3, "[B,R,3]");
    const int64_t rays = directions->size(1);
    check_shape(op, "directions", *directions, {batch, rays, kSirenCoordinates}, "[B,R,3] with the B of points");
    check_like(op, "directions", *directions, "points", points);
    STD_TORCH_CHECK(rays > 0 ? count % rays == 0 : count == 0, op,
                    ": the number of points must be a multiple of R, "
                    "got ",
                    count, " points and directions ", shape_text(*directions));
    per_direction = rays > 0 ? count / rays : 0;
  }
  return {as_contiguous(points),
          as_contiguous(parameters),
          as_contiguous(gamma),
          as_contiguous(beta),
          as_contiguous(directions),
          network,
          batch,
          count,
          per_direction,
          reduced_precision};
}

template <SirenFieldOutputs (*Forward)(const SirenFieldCall&)>
SirenFieldOutputs siren_field_entry(Tensor points, Tensor parameters, std::optional<Tensor> gamma,
                                    std::optional<Tensor> beta, std::optional<Tensor> directions,
                                    std::vector<int64_t> widths, int64_t colour_width, int64_t features,
                                    double point_scale, double gamma_scale, double gamma_offset, double beta_scale,
                                    bool reduced_precision) {
  return Forward(make_siren_field_call(
      points, parameters, gamma, beta, directions,
      {widths, colour_width, features, directions.has_value(), point_scale, gamma_scale, gamma_offset, beta_scale},
      reduced_precision));
}

// Type of a library's backward: (call, grad_features and grad_density contiguous or absent (zero), grad_mask); a
// gradient nobody wants is no_gradient().
using SirenFieldBackward = SirenFieldGradients(const SirenFieldCall&, const std::optional<Tensor>&,
                                               const std::optional<Tensor>&, int64_t);

template <SirenFieldBackward* Backward>
SirenFieldGradients siren_field_backward_entry(std::optional<Tensor> grad_features, std::optional<Tensor> grad_density,
                                               Tensor points, Tensor parameters, std::optional<Tensor> gamma,
                                               std::optional<Tensor> beta, std::optional<Tensor> directions,
                                               std::vector<int64_t> widths, int64_t colour_width, int64_t features,
                                               double point_scale, double gamma_scale, double gamma_offset,
                                               double beta_scale, bool reduced_precision, int64_t grad_mask) {
  const SirenFieldCall call = make_siren_field_call(
      points, parameters, gamma, beta, directions,
      {widths, colour_width, features, directions.has_value(), point_scale, gamma_scale, gamma_offset, beta_scale},
      reduced_precision);
  constexpr const char* op = "siren_field_backward";
  if (grad_features) {
    check_shape(op, "grad_features", *grad_features, {call.batch, call.count, features}, "[B,N,C] like features");
    check_like(op, "grad_features", *grad_features, "points", points);
  }
  if (grad_density) {
    check_shape(op, "grad_density", *grad_density, {call.batch, call.count}, "[B,N] like density");
    check_like(op, "grad_density", *grad_density, "points", points);
  }
  return Backward(call, as_contiguous(grad_features), as_contiguous(grad_density), grad_mask);
}

}  // namespace cips3d
