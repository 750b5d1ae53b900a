// The arguments that describe a field, checked once for all ops that take one.
#pragma once
#include "common/check.h"
#include "common/siren.h"

namespace cips3d {

// The options of the dispatcher schemas, in their order.
struct SirenOptions {
  std::vector<int64_t> widths;
  int64_t colour_width;
  int64_t features;
  bool view_directions;
  double point_scale, gamma_scale, gamma_offset, beta_scale;
};

inline SirenNetwork make_siren_network(const char* op, const SirenOptions& options) {
  const int64_t trunk_layers = static_cast<int64_t>(options.widths.size());
  STD_TORCH_CHECK(trunk_layers >= 1 && trunk_layers <= kSirenMostTrunkLayers, op, ": widths must have 1 to ",
                  kSirenMostTrunkLayers, " entries, got ", trunk_layers);
  for (const int64_t width : options.widths) STD_TORCH_CHECK(width >= 1, op, ": widths must be positive, got ", width);
  STD_TORCH_CHECK(options.colour_width >= 0 && options.features >= 0, op,
                  ": colour_width and features must be 0 or more, got ", options.colour_width, " and ",
                  options.features);
  STD_TORCH_CHECK(options.colour_width > 0 || !options.view_directions, op,
                  ": directions need a colour layer; give one or leave them out");
  SirenNetwork net{};
  net.trunk_layers = static_cast<int>(trunk_layers);
  net.has_colour = options.colour_width > 0;
  net.view_directions = options.view_directions;
  net.point_scale = options.point_scale;
  net.gamma_scale = options.gamma_scale;
  net.gamma_offset = options.gamma_offset;
  net.beta_scale = options.beta_scale;
  const auto linear = [&](int64_t inputs, int64_t outputs) {
    const SirenLayer layer{inputs, outputs, net.parameters, net.parameters + inputs * outputs, 0};
    net.parameters = layer.bias + outputs;
    return layer;
  };
  const auto sine = [&](int64_t inputs, int64_t outputs) {
    SirenLayer layer = linear(inputs, outputs);
    layer.film = net.films;
    net.films += outputs;
    return layer;
  };
  int64_t width = kSirenCoordinates;
  for (int k = 0; k < net.trunk_layers; ++k) {
    net.sine[k] = sine(width, options.widths[k]);
    width = options.widths[k];
  }
  net.density = linear(width, 1);
  if (net.has_colour) {
    net.sine[net.trunk_layers] = sine(width + (net.view_directions ? kSirenCoordinates : 0), options.colour_width);
    width = options.colour_width;
  }
  net.feature = linear(width, options.features);
  return net;
}

// `like` is the tensor, of batch `batch`, that the others must agree with.
inline void check_siren(const char* op, const SirenNetwork& net, const Tensor& parameters,
                        const std::optional<Tensor>& gamma, const std::optional<Tensor>& beta, int64_t batch,
                        const char* like_name, const Tensor& like) {
  check_shape(op, "parameters", parameters, {net.parameters},
              "[P], every weight and bias that widths, colour_width "
              "and features imply");
  check_like(op, "parameters", parameters, like_name, like);
  const auto check_film = [&](const char* name, const std::optional<Tensor>& film) {
    if (!film) return;
    check_shape(op, name, *film, {batch, net.films}, "[B,F], F the sum of widths and colour_width");
    check_like(op, name, *film, like_name, like);
  };
  check_film("gamma", gamma);
  check_film("beta", beta);
}

}  // namespace cips3d
