// Contract of render_rays: what its arguments are, checked once for the CPU and the CUDA library. The field's layers
// and the layout of its flat tensors are in common/siren.h, the integration's math in common/volume_render_math.h, the
// sampling's in common/sample_pdf_math.h.
//
// Axes: B batch, R rays, S coarse samples, F fine samples (0 without u), M = S + F, C features; P, films: siren.h.
//   origins, directions [B,R,3], parameters [P], gamma and beta [B,films], jitter and noise_coarse [B,R,S], u [B,R,F],
//   noise [B,R,M], one dtype, one device
//   -> feature [B,R,C], depth [B,R], weights [B,R,M] of that dtype; fine_depths [B,R,F] of the type that dtype is
//   computed in (float64 for float64, float32 for all others): backward samples where forward did
//
// Each library registers  m.impl("render_rays", TORCH_BOX(&render_rays_entry<render_rays_cpu>))  with functions of the
// checked RenderRaysCall.
#pragma once
#include "common/density_activation.h"
#include "common/siren_checks.h"
#include "render_rays/render_rays_math.h"

namespace cips3d {

// One checked call. Tensors are contiguous.
struct RenderRaysCall {
  Tensor origins, directions, parameters;
  std::optional<Tensor> gamma, beta;
  Tensor jitter;
  std::optional<Tensor> u, noise_coarse, noise;
  SirenNetwork network;
  bool reduced_precision;  // float32 products may round their operands as TF32 does
  RenderRaysOptions options;
  RenderRaysSizes sizes;
};

using RenderRaysOutputs = std::tuple<Tensor, Tensor, Tensor, Tensor>;            // feature, depth, weights, fine_depths
using RenderRaysGradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;  // by RenderRaysGradient

// Positions in grad_mask and in the tuple that render_rays_backward returns.
enum RenderRaysGradient : int {
  kRaysGradOrigins,
  kRaysGradDirections,
  kRaysGradParameters,
  kRaysGradGamma,
  kRaysGradBeta
};

// The gradients of the outputs, each absent (zero) or contiguous, and the forward pass's fine depths.
struct RenderRaysOutputGradients {
  std::optional<Tensor> feature, depth, weights;
  Tensor fine_depths;
};

// The options of the dispatcher schemas after the field's, in their order.
struct RenderRaysChoices {
  bool reduced_precision;
  double near, far;
  std::string activation;
  bool last_back;
  int64_t white_channels;
};

inline void check_render_rays(const RenderRaysCall& call) {
  constexpr const char* op = "render_rays";
  const RenderRaysSizes& sizes = call.sizes;
  const auto check = [&](const char* name, const std::optional<Tensor>& t, int64_t last, const char* axes) {
    if (!t) return;
    check_shape(op, name, *t, {sizes.batch, sizes.rays, last}, axes);
    check_like(op, name, *t, "origins", call.origins);
  };
  check("origins", call.origins, kSirenCoordinates, "[B,R,3]");
  check("directions", call.directions, kSirenCoordinates, "[B,R,3] like origins");
  check_siren(op, call.network, call.parameters, call.gamma, call.beta, sizes.batch, "origins", call.origins);
  check("jitter", call.jitter, sizes.coarse, "[B,R,S] with the B and R of origins");
  check("u", call.u, sizes.fine, "[B,R,F] with the B and R of origins");
  check("noise_coarse", call.noise_coarse, sizes.coarse, "[B,R,S] like jitter");
  check("noise", call.noise, sizes.samples(), "[B,R,M], M = S + F");
  const int64_t fewest = call.u ? kFewestSamplesHierarchical : kFewestSamples;
  STD_TORCH_CHECK(sizes.coarse >= fewest, op, ": jitter must have at least ", fewest,
                  call.u ? " samples a ray with u" : " samples a ray", ", got ", shape_text(call.jitter));
  STD_TORCH_CHECK(call.u || !call.noise_coarse, op,
                  ": noise_coarse is for the weights that u samples; give u, or leave noise_coarse out");
  const int64_t channels = call.network.feature.outputs;
  STD_TORCH_CHECK(call.options.white_channels >= 0 && call.options.white_channels <= channels, op,
                  ": white_channels must be 0 to the ", channels, " channels of the features, got ",
                  call.options.white_channels);
}

inline RenderRaysCall make_render_rays_call(const Tensor& origins, const Tensor& directions, const Tensor& parameters,
                                            const std::optional<Tensor>& gamma, const std::optional<Tensor>& beta,
                                            const Tensor& jitter, const std::optional<Tensor>& u,
                                            const std::optional<Tensor>& noise_coarse,
                                            const std::optional<Tensor>& noise, const SirenOptions& field,
                                            const RenderRaysChoices& choices) {
  constexpr const char* op = "render_rays";
  check_floating(op, "origins", origins);
  check_dimensions(op, "origins", origins, 3, "[B,R,3]");
  check_dimensions(op, "jitter", jitter, 3, "[B,R,S]");
  if (u) check_dimensions(op, "u", *u, 3, "[B,R,F]");
  const RenderRaysSizes sizes{origins.size(0), origins.size(1), jitter.size(2), u ? u->size(2) : 0};
  const RenderRaysOptions options{choices.near, choices.far, parse_activation(op, choices.activation),
                                  choices.last_back, choices.white_channels};
  RenderRaysCall call{origins,
                      directions,
                      parameters,
                      gamma,
                      beta,
                      jitter,
                      u,
                      noise_coarse,
                      noise,
                      make_siren_network(op, field),
                      choices.reduced_precision,
                      options,
                      sizes};
  check_render_rays(call);
  for (Tensor* t : {&call.origins, &call.directions, &call.parameters, &call.jitter}) *t = as_contiguous(*t);
  for (std::optional<Tensor>* t : {&call.gamma, &call.beta, &call.u, &call.noise_coarse, &call.noise})
    *t = as_contiguous(*t);
  return call;
}

template <RenderRaysOutputs (*Forward)(const RenderRaysCall&)>
RenderRaysOutputs render_rays_entry(Tensor origins, Tensor directions, Tensor parameters, std::optional<Tensor> gamma,
                                    std::optional<Tensor> beta, Tensor jitter, std::optional<Tensor> u,
                                    std::optional<Tensor> noise_coarse, std::optional<Tensor> noise,
                                    std::vector<int64_t> widths, int64_t colour_width, int64_t features,
                                    bool view_directions, double point_scale, double gamma_scale, double gamma_offset,
                                    double beta_scale, bool reduced_precision, double near, double far,
                                    StringArgument activation, bool last_back, int64_t white_channels) {
  return Forward(make_render_rays_call(
      origins, directions, parameters, gamma, beta, jitter, u, noise_coarse, noise,
      {widths, colour_width, features, view_directions, point_scale, gamma_scale, gamma_offset, beta_scale},
      {reduced_precision, near, far, activation.take(), last_back, white_channels}));
}

// Type of a library's backward; a gradient nobody wants is no_gradient().
using RenderRaysBackward = RenderRaysGradients(const RenderRaysCall&, const RenderRaysOutputGradients&, int64_t);

template <RenderRaysBackward* Backward>
RenderRaysGradients render_rays_backward_entry(std::optional<Tensor> grad_feature, std::optional<Tensor> grad_depth,
                                               std::optional<Tensor> grad_weights, Tensor fine_depths, Tensor origins,
                                               Tensor directions, Tensor parameters, std::optional<Tensor> gamma,
                                               std::optional<Tensor> beta, Tensor jitter, std::optional<Tensor> u,
                                               std::optional<Tensor> noise_coarse, std::optional<Tensor> noise,
                                               std::vector<int64_t> widths, int64_t colour_width, int64_t features,
                                               bool view_directions, double point_scale, double gamma_scale,
                                               double gamma_offset, double beta_scale, bool reduced_precision,
                                               double near, double far, StringArgument activation, bool last_back,
                                               int64_t white_channels, int64_t grad_mask) {
  const RenderRaysCall call = make_render_rays_call(
      origins, directions, parameters, gamma, beta, jitter, u, noise_coarse, noise,
      {widths, colour_width, features, view_directions, point_scale, gamma_scale, gamma_offset, beta_scale},
      {reduced_precision, near, far, activation.take(), last_back, white_channels});
  constexpr const char* op = "render_rays_backward";
  const RenderRaysSizes& sizes = call.sizes;
  const auto check = [&](const char* name, const std::optional<Tensor>& t, std::vector<int64_t> wanted) {
    if (!t) return;
    check_shape(op, name, *t, wanted, "of its output's shape");
    check_like(op, name, *t, "origins", call.origins);
  };
  check("grad_feature", grad_feature, {sizes.batch, sizes.rays, features});
  check("grad_depth", grad_depth, {sizes.batch, sizes.rays});
  check("grad_weights", grad_weights, {sizes.batch, sizes.rays, sizes.samples()});
  check_shape(op, "fine_depths", fine_depths, {sizes.batch, sizes.rays, sizes.fine}, "[B,R,F] as forward returned it");
  STD_TORCH_CHECK(fine_depths.scalar_type() == computing_type(origins.scalar_type()), op,
                  ": fine_depths must have the type that render_rays returned it in, got ", fine_depths.scalar_type());
  return Backward(
      call,
      {as_contiguous(grad_feature), as_contiguous(grad_depth), as_contiguous(grad_weights), as_contiguous(fine_depths)},
      grad_mask);
}

}  // namespace cips3d
