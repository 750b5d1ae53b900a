// Contract of volume_render: what its arguments are, checked once for the CPU and the CUDA library. The math is in
// volume_render_math.h.
//
// Axes: B batch, R rays, S samples, C features; n intervals = S (rule left) or S - 1 (rule midpoint).
//   density, depths, noise [B,R,S], features [B,R,S,C], beta [1], ray_norm [B,R]          all of one dtype, on one
//   device
//   -> feature [B,R,C], depth [B,R], weights [B,R,n], transmittance [B,R], accumulation [B,R]      of that dtype,
//   contiguous
// feature = feature_scale * (sum_i w'_i f_i + white) + feature_shift, white = 1 - accumulation on the first
// white_channels; w' are the weights with last_back, accumulation is their sum without it, transmittance is T before
// the last interval.
//
// The schema's flat argument list is written here twice, forward and backward; each library registers
//   m.impl("volume_render", TORCH_BOX(&(volume_render_entry<volume_render_cpu>)))
// with functions of the checked VolumeRenderCall.
#pragma once
#include "common/check.h"
#include "common/density_activation.h"

namespace cips3d {

using VolumeRenderOutputs = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// Positions in grad_mask and in the tuple that volume_render_backward returns.
enum VolumeRenderGradient : int { kGradDensity, kGradFeatures, kGradDepths, kGradBeta, kGradRayNorm };

// One checked call. Tensors are contiguous, but for the stride of features.
struct VolumeRenderCall {
  Tensor density;
  std::optional<Tensor> features;
  Tensor depths;
  std::optional<Tensor> noise, beta, ray_norm;
  VolumeRenderOptions options;
  VolumeRenderSizes sizes;

  int64_t batch() const { return density.size(0); }
  int64_t rays() const { return density.size(1); }
};

// The gradients of the five outputs, each absent or contiguous and of its output's shape.
struct VolumeRenderOutputGradients {
  std::optional<Tensor> feature, depth, weights, transmittance, accumulation;
};

inline bool parse_choice(const char* argument, const std::string& value, const char* no, const char* yes) {
  STD_TORCH_CHECK(value == no || value == yes, "volume_render: ", argument, " must be ", no, " or ", yes, ", got ",
                  value);
  return value == yes;
}

// Shapes, dtypes and devices of the call's tensors.
inline void check_volume_render(const VolumeRenderCall& call) {
  constexpr const char* op = "volume_render";
  const Tensor& density = call.density;
  check_floating(op, "density", density);
  check_dimensions(op, "density", density, 3, "[B,R,S]");
  const std::vector<int64_t> rays{density.size(0), density.size(1)};
  const std::vector<int64_t> samples{rays[0], rays[1], density.size(2)};
  const int64_t wanted_samples = call.options.midpoint ? 2 : 1;
  STD_TORCH_CHECK(samples[2] >= wanted_samples, "volume_render: density needs at least ", wanted_samples,
                  " samples a ray with this rule, got ", shape_text(density));
  check_shape(op, "depths", call.depths, samples, "[B,R,S] like density");
  check_like(op, "depths", call.depths, "density", density);
  if (call.features) {
    check_shape(op, "features", *call.features, {samples[0], samples[1], samples[2], call.sizes.channels},
                "[B,R,S,C] with density's B, R and S");
    check_like(op, "features", *call.features, "density", density);
  }
  if (call.noise) {
    check_shape(op, "noise", *call.noise, samples, "[B,R,S] like density");
    check_like(op, "noise", *call.noise, "density", density);
  }
  if (call.beta) {
    STD_TORCH_CHECK(call.beta->numel() == 1, "volume_render: beta must have one element, got ", shape_text(*call.beta));
    check_like(op, "beta", *call.beta, "density", density);
  }
  if (call.ray_norm) {
    check_shape(op, "ray_norm", *call.ray_norm, rays, "[B,R] with density's B and R");
    check_like(op, "ray_norm", *call.ray_norm, "density", density);
  }
}

// From one sample's features [B,R,S,C] to the next one's, where all are at equal distances with their channels together,
// as in a slice [..., :C] of wider rows; 0 where they are not.
inline int64_t sample_stride(const Tensor& features) {
  const int64_t stride = features.stride(2), ray = features.size(2) * stride;
  const bool rays_follow = features.size(1) == 1 || features.stride(1) == ray;
  const bool images_follow = features.size(0) == 1 || features.stride(0) == features.size(1) * ray;
  const bool apart = features.stride(3) == 1 && stride >= features.size(3) && rays_follow && images_follow;
  return features.numel() > 0 && apart ? stride : 0;
}

// The schema's arguments as one checked call.
inline VolumeRenderCall make_volume_render_call(Tensor density, std::optional<Tensor> features, Tensor depths,
                                                std::optional<Tensor> noise, std::optional<Tensor> beta,
                                                std::optional<Tensor> ray_norm, const std::string& activation,
                                                double shift, double beta_value, const std::string& rule,
                                                double last_delta, std::optional<double> far, bool unit_delta,
                                                bool norm_last, std::optional<double> last_alpha, double trans_eps,
                                                bool last_back, int64_t white_channels, const std::string& depth_mode,
                                                double feature_scale, double feature_shift) {
  const int64_t channels = features && features->dim() == 4 ? features->size(3) : 0;
  STD_TORCH_CHECK(white_channels >= -1 && white_channels <= (features ? channels : white_channels),
                  "volume_render: white_channels must be 0 (none), -1 (all) or at most the ", channels,
                  " channels of features, got ", white_channels);
  VolumeRenderOptions options{};
  options.activation = parse_activation("volume_render", activation);
  options.shift = shift;
  options.beta = beta_value;
  options.midpoint = parse_choice("rule", rule, "left", "midpoint");
  options.last_delta = last_delta;
  options.has_far = far.has_value();
  options.far = far.value_or(0);
  options.unit_delta = unit_delta;
  options.norm_last = norm_last;
  options.has_last_alpha = last_alpha.has_value();
  options.last_alpha = last_alpha.value_or(0);
  options.trans_eps = trans_eps;
  options.last_back = last_back;
  options.white_channels = white_channels < 0 || !features ? channels : white_channels;
  options.expected_depth = parse_choice("depth_mode", depth_mode, "sum", "expected");
  options.feature_scale = feature_scale;
  options.feature_shift = feature_shift;

  VolumeRenderCall call{density, features, depths, noise, beta, ray_norm, options, {}};
  call.sizes.channels = channels;
  check_volume_render(call);
  call.sizes.rays = density.size(0) * density.size(1);
  call.sizes.samples = density.size(2);
  call.sizes.intervals = density.size(2) - (options.midpoint ? 1 : 0);
  call.density = as_contiguous(density);
  const int64_t stride = features ? sample_stride(*features) : 0;
  call.features = stride > 0 ? features : as_contiguous(features);
  call.sizes.feature_stride = stride > 0 ? stride : channels;
  call.depths = as_contiguous(depths);
  call.noise = as_contiguous(noise);
  call.beta = as_contiguous(beta);
  call.ray_norm = as_contiguous(ray_norm);
  return call;
}

inline std::optional<Tensor> check_output_gradient(const VolumeRenderCall& call, const std::optional<Tensor>& grad,
                                                   const char* name, std::vector<int64_t> last_axes) {
  if (!grad) return std::nullopt;
  std::vector<int64_t> wanted{call.batch(), call.rays()};
  wanted.insert(wanted.end(), last_axes.begin(), last_axes.end());
  check_shape("volume_render_backward", name, *grad, wanted, "of its output's shape");
  check_like("volume_render_backward", name, *grad, "density", call.density);
  return as_contiguous(*grad);
}

// Type of a library's forward: VolumeRenderOutputs(const VolumeRenderCall&).
template <VolumeRenderOutputs (*Forward)(const VolumeRenderCall&)>
VolumeRenderOutputs volume_render_entry(Tensor density, std::optional<Tensor> features, Tensor depths,
                                        std::optional<Tensor> noise, std::optional<Tensor> beta,
                                        std::optional<Tensor> ray_norm, StringArgument activation, double shift,
                                        double beta_value, StringArgument rule, double last_delta,
                                        std::optional<double> far, bool unit_delta, bool norm_last,
                                        std::optional<double> last_alpha, double trans_eps, bool last_back,
                                        int64_t white_channels, StringArgument depth_mode, double feature_scale,
                                        double feature_shift) {
  return Forward(make_volume_render_call(density, features, depths, noise, beta, ray_norm, activation.take(), shift,
                                         beta_value, rule.take(), last_delta, far, unit_delta, norm_last, last_alpha,
                                         trans_eps, last_back, white_channels, depth_mode.take(), feature_scale,
                                         feature_shift));
}

// Type of a library's backward: wanted(mask, kGrad...) says which gradients to return, the others are no_gradient().
using VolumeRenderBackward = VolumeRenderOutputs(const VolumeRenderCall&, const VolumeRenderOutputGradients&, int64_t);

inline bool wanted(int64_t grad_mask, VolumeRenderGradient gradient) { return (grad_mask >> gradient) & 1; }

template <VolumeRenderBackward* Backward>
VolumeRenderOutputs volume_render_backward_entry(
    std::optional<Tensor> grad_feature, std::optional<Tensor> grad_depth, std::optional<Tensor> grad_weights,
    std::optional<Tensor> grad_transmittance, std::optional<Tensor> grad_accumulation, Tensor density,
    std::optional<Tensor> features, Tensor depths, std::optional<Tensor> noise, std::optional<Tensor> beta,
    std::optional<Tensor> ray_norm, StringArgument activation, double shift, double beta_value, StringArgument rule,
    double last_delta, std::optional<double> far, bool unit_delta, bool norm_last, std::optional<double> last_alpha,
    double trans_eps, bool last_back, int64_t white_channels, StringArgument depth_mode, double feature_scale,
    double feature_shift, int64_t grad_mask) {
  const VolumeRenderCall call =
      make_volume_render_call(density, features, depths, noise, beta, ray_norm, activation.take(), shift, beta_value,
                              rule.take(), last_delta, far, unit_delta, norm_last, last_alpha, trans_eps, last_back,
                              white_channels, depth_mode.take(), feature_scale, feature_shift);
  if (!call.features) grad_feature = std::nullopt;  // an output of no channels
  const VolumeRenderOutputGradients grads{
      check_output_gradient(call, grad_feature, "grad_feature", {call.sizes.channels}),
      check_output_gradient(call, grad_depth, "grad_depth", {}),
      check_output_gradient(call, grad_weights, "grad_weights", {call.sizes.intervals}),
      check_output_gradient(call, grad_transmittance, "grad_transmittance", {}),
      check_output_gradient(call, grad_accumulation, "grad_accumulation", {})};
  return Backward(call, grads, grad_mask);
}

}  // namespace cips3d
