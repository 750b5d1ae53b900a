// Contract of film_sine: what its arguments are, checked once for the CPU and the CUDA library. The math is in
// film_sine_math.h.
//
// Axes: B batch, N points, I in, O out.
//   x [B,N,I], weight [O,I], bias [O], gamma and beta [B,O], one dtype, one device -> y [B,N,O] of that dtype,
//   contiguous
//   Forward also returns what its `keep` asks for, for backward alone: "linear", x W^T + bias [B,N,O] in the type it is
//   computed in, or "", an empty tensor. A backward that is given an empty one computes it again.
//
// Each library registers  m.impl("film_sine", TORCH_BOX(&film_sine_entry<film_sine_cpu>))  with functions of the
// checked FilmSineCall.
#pragma once
#include "common/check.h"
#include "film_sine/film_sine_math.h"

namespace cips3d {

// One checked call. Tensors are contiguous.
struct FilmSineCall {
  Tensor x, weight;
  std::optional<Tensor> bias, gamma, beta;
  FilmSineOptions options;
  FilmSineSizes sizes;
  bool reduced_precision;  // float32 products may round their operands (CUDA)
};

using FilmSineOutputs = std::tuple<Tensor, Tensor>;  // y, linear
using FilmSineGradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// Positions in grad_mask and in the tuple that film_sine_backward returns.
enum FilmSineGradient : int { kFilmGradX, kFilmGradWeight, kFilmGradBias, kFilmGradGamma, kFilmGradBeta };

inline FilmSineCall make_film_sine_call(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                                        const std::optional<Tensor>& gamma, const std::optional<Tensor>& beta,
                                        FilmSineOptions options, bool reduced_precision) {
  constexpr const char* op = "film_sine";
  check_floating(op, "x", x);
  check_dimensions(op, "x", x, 3, "[B,N,I]");
  check_dimensions(op, "weight", weight, 2, "[O,I]");
  const FilmSineSizes sizes{x.size(0), x.size(1), x.size(2), weight.size(0)};
  check_shape(op, "weight", weight, {sizes.outputs, sizes.inputs}, "[O,I] with the I of x");
  check_like(op, "weight", weight, "x", x);
  if (bias) {
    check_shape(op, "bias", *bias, {sizes.outputs}, "[O] with the O of weight");
    check_like(op, "bias", *bias, "x", x);
  }
  if (gamma) {
    check_shape(op, "gamma", *gamma, {sizes.batch, sizes.outputs}, "[B,O] with the B of x and the O of weight");
    check_like(op, "gamma", *gamma, "x", x);
  }
  if (beta) {
    check_shape(op, "beta", *beta, {sizes.batch, sizes.outputs}, "[B,O] with the B of x and the O of weight");
    check_like(op, "beta", *beta, "x", x);
  }
  return {as_contiguous(x),
          as_contiguous(weight),
          as_contiguous(bias),
          as_contiguous(gamma),
          as_contiguous(beta),
          options,
          sizes,
          reduced_precision};
}

// Type of a library's forward: (call, whether linear is to be kept).
using FilmSineForward = FilmSineOutputs(const FilmSineCall&, bool);

template <FilmSineForward* Forward>
FilmSineOutputs film_sine_entry(Tensor x, Tensor weight, std::optional<Tensor> bias, std::optional<Tensor> gamma,
                                std::optional<Tensor> beta, double gamma_scale, double gamma_offset, double beta_scale,
                                bool reduced_precision, StringArgument keep_argument) {
  const std::string keep = keep_argument.take();
  STD_TORCH_CHECK(keep.empty() || keep == "linear", "film_sine: keep must be '' or linear, got ", keep);
  return Forward(
      make_film_sine_call(x, weight, bias, gamma, beta, {gamma_scale, gamma_offset, beta_scale}, reduced_precision),
      !keep.empty());
}

inline void check_film_sine_gradient(const char* op, const FilmSineCall& call, const Tensor& grad_y,
                                     const Tensor& linear) {
  const std::vector<int64_t> shape{call.sizes.batch, call.sizes.points, call.sizes.outputs};
  check_shape(op, "grad_y", grad_y, shape, "[B,N,O] like y");
  check_like(op, "grad_y", grad_y, "x", call.x);
  if (linear.numel() == 0) return;
  const ScalarType type = computing_type(call.x.scalar_type());
  check_shape(op, "linear", linear, shape, "[B,N,O] like y, or empty");
  STD_TORCH_CHECK(linear.scalar_type() == type, op, ": linear must be ", type, ", got ", linear.scalar_type());
}

// Type of a library's backward: (call, grad_y contiguous, linear contiguous or empty, grad_mask); a gradient nobody
// wants is no_gradient().
using FilmSineBackward = FilmSineGradients(const FilmSineCall&, const Tensor&, const Tensor&, int64_t);

template <FilmSineBackward* Backward>
FilmSineGradients film_sine_backward_entry(Tensor grad_y, Tensor linear, Tensor x, Tensor weight,
                                           std::optional<Tensor> bias, std::optional<Tensor> gamma,
                                           std::optional<Tensor> beta, double gamma_scale, double gamma_offset,
                                           double beta_scale, bool reduced_precision, int64_t grad_mask) {
  const FilmSineCall call =
      make_film_sine_call(x, weight, bias, gamma, beta, {gamma_scale, gamma_offset, beta_scale}, reduced_precision);
  check_film_sine_gradient("film_sine_backward", call, grad_y, linear);
  return Backward(call, as_contiguous(grad_y), as_contiguous(linear), grad_mask);
}

// What a second derivative is given beside the call: the direction in which the layer is differentiated (the gradients
// of grad_x, grad_gamma and grad_beta; absent ones are zero), grad_y, and linear or an empty tensor. All contiguous.
struct FilmSineSecondCall {
  std::optional<Tensor> direction_x, direction_gamma, direction_beta;
  Tensor grad_y, linear;
};
using FilmSineSecondGradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// Positions in grad_mask and in the tuple that film_sine_second returns: the first, then those of FilmSineGradient.
inline constexpr int kFilmSecondGradY = 0, kFilmSecondInputs = 1;

using FilmSineSecond = FilmSineSecondGradients(const FilmSineCall&, const FilmSineSecondCall&, int64_t);

template <FilmSineSecond* Second>
FilmSineSecondGradients film_sine_second_entry(std::optional<Tensor> direction_x, std::optional<Tensor> direction_gamma,
                                               std::optional<Tensor> direction_beta, Tensor grad_y, Tensor linear,
                                               Tensor x, Tensor weight, std::optional<Tensor> bias,
                                               std::optional<Tensor> gamma, std::optional<Tensor> beta,
                                               double gamma_scale, double gamma_offset, double beta_scale,
                                               bool reduced_precision, int64_t grad_mask) {
  constexpr const char* op = "film_sine_second";
  const FilmSineCall call =
      make_film_sine_call(x, weight, bias, gamma, beta, {gamma_scale, gamma_offset, beta_scale}, reduced_precision);
  const FilmSineSizes& sizes = call.sizes;
  check_film_sine_gradient(op, call, grad_y, linear);
  const auto check = [&](const char* name, const std::optional<Tensor>& t, const std::vector<int64_t>& shape,
                         const char* axes) {
    if (!t) return;
    check_shape(op, name, *t, shape, axes);
    check_like(op, name, *t, "x", x);
  };
  check("grad_grad_x", direction_x, {sizes.batch, sizes.points, sizes.inputs}, "[B,N,I] like x");
  check("grad_grad_gamma", direction_gamma, {sizes.batch, sizes.outputs}, "[B,O]");
  check("grad_grad_beta", direction_beta, {sizes.batch, sizes.outputs}, "[B,O]");
  return Second(call,
                {as_contiguous(direction_x), as_contiguous(direction_gamma), as_contiguous(direction_beta),
                 as_contiguous(grad_y), as_contiguous(linear)},
                grad_mask);
}

}  // namespace cips3d
