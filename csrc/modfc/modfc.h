// Contract of modfc: what its arguments are, checked once for the CPU and the CUDA library. The math is in
// modfc_math.h.
//
// Axes: B batch, N points, I in, O out, K colours.
//   x [B,N,I], weight [O,I], style [B,I], bias [O], noise [B,N,O], skip [B,N,O], to_rgb [K,O], one dtype, one device
//   -> y [B,N,O] and rgb [B,N,K] (empty without to_rgb) of that dtype, contiguous. The noise is read through its
//   strides, since it is usually an expanded [N,1] or [B,N,1].
//   channels_first: x [B,I,N], noise, skip, y and all that has their shape [B,O,N]; no to_rgb.
//   Forward also returns what its `keep` asks for, for backward alone: `kept` and d [B,O]. A backward that is given
//   empty tensors in their place computes what it needs again. It gets y only where the gradient of to_rgb is wanted.
//
// Each library registers  m.impl("modfc", TORCH_BOX(&modfc_entry<modfc_cpu>))  with functions of the checked ModfcCall.
#pragma once
#include "common/check.h"
#include "modfc/modfc_math.h"

namespace cips3d {

// One checked call. All tensors but the noise are contiguous.
struct ModfcCall {
  Tensor x, weight, style;
  std::optional<Tensor> bias, noise, skip, to_rgb;
  ModfcOptions options;
  ModfcSizes sizes;
  ModfcNoiseStrides noise_strides;
  bool reduced_precision;  // float32 products may round their operands (CUDA)
  bool channels_first;

  std::vector<int64_t> y_shape() const {
    if (channels_first) return {sizes.batch, sizes.outputs, sizes.points};
    return {sizes.batch, sizes.points, sizes.outputs};
  }
  const char* y_axes() const { return channels_first ? "[B,O,N] like y" : "[B,N,O] like y"; }
};

// What backward needs of forward beside d: nothing more (act and clamp are the identity), the branch of each element
// (uint8 [B,N,O], see kModfcBelow), or x W'^T before d ([B,N,O] in the compute dtype).
enum class ModfcKeep { kNothing, kDemodulation, kBranches, kLinear };

struct ModfcKept {
  Tensor kept, demodulation;
};

// What backward is given of the results: gradients, absent where nobody used that result, and y. All contiguous.
struct ModfcResults {
  std::optional<Tensor> grad_y, grad_rgb, y;
};

using ModfcOutputs = std::tuple<Tensor, Tensor, Tensor, Tensor>;  // y, rgb and ModfcKept
using ModfcGradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// Positions in grad_mask and in the tuple that modfc_backward returns.
enum ModfcGradient : int {
  kModfcGradX,
  kModfcGradWeight,
  kModfcGradStyle,
  kModfcGradBias,
  kModfcGradNoise,
  kModfcGradSkip,
  kModfcGradToRgb
};

inline ModfcActivation parse_modfc_activation(const std::string& name) {
  if (name == "linear") return ModfcActivation::kLinear;
  if (name == "lrelu") return ModfcActivation::kLeakyRelu;
  if (name == "relu") return ModfcActivation::kRelu;
  STD_TORCH_CHECK(name == "sin", "modfc: activation must be linear, lrelu, relu or sin, got ", name);
  return ModfcActivation::kSin;
}

inline ModfcKeep parse_modfc_keep(const std::string& name) {
  if (name.empty()) return ModfcKeep::kNothing;
  if (name == "demodulation") return ModfcKeep::kDemodulation;
  if (name == "branches") return ModfcKeep::kBranches;
  STD_TORCH_CHECK(name == "linear", "modfc: keep must be '', demodulation, branches or linear, got ", name);
  return ModfcKeep::kLinear;
}

inline void check_modfc(const ModfcCall& call) {
  constexpr const char* op = "modfc";
  const ModfcSizes& sizes = call.sizes;
  check_shape(op, "weight", call.weight, {sizes.outputs, sizes.inputs}, "[O,I] with the I of x");
  check_like(op, "weight", call.weight, "x", call.x);
  check_shape(op, "style", call.style, {sizes.batch, sizes.inputs}, "[B,I] with the B and I of x");
  check_like(op, "style", call.style, "x", call.x);
  if (call.bias) {
    check_shape(op, "bias", *call.bias, {sizes.outputs}, "[O] with the O of weight");
    check_like(op, "bias", *call.bias, "x", call.x);
  }
  if (call.noise) {
    check_shape(op, "noise", *call.noise, call.y_shape(), call.y_axes());
    check_like(op, "noise", *call.noise, "x", call.x);
  }
  if (call.skip) {
    check_shape(op, "skip", *call.skip, call.y_shape(), call.y_axes());
    check_like(op, "skip", *call.skip, "x", call.x);
  }
  if (call.to_rgb) {
    STD_TORCH_CHECK(!call.channels_first, "modfc: to_rgb needs rows x [B,N,I], not channels_first");
    check_shape(op, "to_rgb", *call.to_rgb, {sizes.colours, sizes.outputs}, "[K,O] with the O of weight");
    STD_TORCH_CHECK(1 <= sizes.colours && sizes.colours <= kModfcMostColours, "modfc: to_rgb must have 1 to ",
                    kModfcMostColours, " colours, got ", shape_text(*call.to_rgb));
    check_like(op, "to_rgb", *call.to_rgb, "x", call.x);
  }
}

// The schema's arguments as one checked call.
inline ModfcCall make_modfc_call(const Tensor& x, const Tensor& weight, const Tensor& style,
                                 const std::optional<Tensor>& bias, const std::optional<Tensor>& noise,
                                 const std::optional<Tensor>& skip, const std::optional<Tensor>& to_rgb, double scale,
                                 double style_offset, bool demodulate, double eps, const std::string& activation,
                                 double alpha, double gain, std::optional<double> clamp, bool reduced_precision,
                                 bool channels_first) {
  check_floating("modfc", "x", x);
  check_dimensions("modfc", "x", x, 3, channels_first ? "[B,I,N]" : "[B,N,I]");
  check_dimensions("modfc", "weight", weight, 2, "[O,I]");
  if (to_rgb) check_dimensions("modfc", "to_rgb", *to_rgb, 2, "[K,O]");
  STD_TORCH_CHECK(!clamp || *clamp >= 0, "modfc: clamp must be None or >= 0, got ", clamp.value_or(0));
  const ModfcOptions options{scale, style_offset,      demodulate,       eps, parse_modfc_activation(activation), alpha,
                             gain,  clamp.has_value(), clamp.value_or(0)};
  const int points = channels_first ? 2 : 1, channels = 3 - points;  // axes of x and of all that is like y
  const ModfcSizes sizes{x.size(0), x.size(points), x.size(channels), weight.size(0), to_rgb ? to_rgb->size(0) : 0};
  ModfcCall call{x, weight, style, bias, noise, skip, to_rgb, options, sizes, {}, reduced_precision, channels_first};
  check_modfc(call);
  call.x = as_contiguous(x);
  call.weight = as_contiguous(weight);
  call.style = as_contiguous(style);
  call.bias = as_contiguous(bias);
  call.skip = as_contiguous(skip);
  call.to_rgb = as_contiguous(to_rgb);
  if (noise) call.noise_strides = {noise->stride(0), noise->stride(points), noise->stride(channels)};
  return call;
}

inline ModfcKept nothing_kept(const Tensor& like) { return {no_gradient(like), no_gradient(like)}; }

inline ModfcKept make_modfc_kept(const ModfcCall& call, const Tensor& kept, const Tensor& demodulation) {
  constexpr const char* op = "modfc_backward";
  const ModfcSizes& sizes = call.sizes;
  const ScalarType wide = computing_type(call.x.scalar_type()), type = kept.scalar_type();
  if (kept.numel() > 0) {
    check_shape(op, "kept", kept, call.y_shape(), call.y_axes());
    STD_TORCH_CHECK(type == wide || type == ScalarType::Byte, op, ": kept must be ", wide, " or uint8, got ", type);
  }
  if (demodulation.numel() > 0) {
    check_shape(op, "demodulation", demodulation, {sizes.batch, sizes.outputs}, "[B,O], or empty");
    STD_TORCH_CHECK(demodulation.scalar_type() == wide, op, ": demodulation must be ", wide, ", got ",
                    demodulation.scalar_type());
  }
  return {as_contiguous(kept), as_contiguous(demodulation)};
}

inline ModfcResults make_modfc_results(const ModfcCall& call, const std::optional<Tensor>& grad_y,
                                       const std::optional<Tensor>& grad_rgb, const std::optional<Tensor>& y,
                                       int64_t grad_mask) {
  constexpr const char* op = "modfc_backward";
  const ModfcSizes& sizes = call.sizes;
  const auto check = [&](const char* name, const std::optional<Tensor>& t, const std::vector<int64_t>& shape,
                         const char* axes) {
    if (!t) return;
    check_shape(op, name, *t, shape, axes);
    check_like(op, name, *t, "x", call.x);
  };
  check("grad_y", grad_y, call.y_shape(), call.y_axes());
  check("y", y, call.y_shape(), call.y_axes());
  STD_TORCH_CHECK(!grad_rgb || call.to_rgb, op, ": grad_rgb needs to_rgb, got none");
  check("grad_rgb", grad_rgb, {sizes.batch, sizes.points, sizes.colours}, "[B,N,K] with the K of to_rgb");
  const bool needs_y = grad_rgb && (grad_mask >> kModfcGradToRgb & 1) != 0;
  STD_TORCH_CHECK(!needs_y || y, op, ": the gradient of to_rgb needs y, got none");
  return {as_contiguous(grad_y), as_contiguous(grad_rgb), as_contiguous(y)};
}

using ModfcForward = ModfcOutputs(const ModfcCall&, ModfcKeep);

template <ModfcForward* Forward>
ModfcOutputs modfc_entry(Tensor x, Tensor weight, Tensor style, std::optional<Tensor> bias, std::optional<Tensor> noise,
                         std::optional<Tensor> skip, std::optional<Tensor> to_rgb, double scale, double style_offset,
                         bool demodulate, double eps, StringArgument activation, double alpha, double gain,
                         std::optional<double> clamp, bool reduced_precision, bool channels_first,
                         StringArgument keep) {
  return Forward(make_modfc_call(x, weight, style, bias, noise, skip, to_rgb, scale, style_offset, demodulate, eps,
                                 activation.take(), alpha, gain, clamp, reduced_precision, channels_first),
                 parse_modfc_keep(keep.take()));
}

// Type of a library's backward: (call, gradients of the results, what forward kept, grad_mask); a gradient nobody wants
// is no_gradient().
using ModfcBackward = ModfcGradients(const ModfcCall&, const ModfcResults&, const ModfcKept&, int64_t);

template <ModfcBackward* Backward>
ModfcGradients modfc_backward_entry(std::optional<Tensor> grad_y, std::optional<Tensor> grad_rgb,
                                    std::optional<Tensor> y, Tensor kept, Tensor demodulation, Tensor x, Tensor weight,
                                    Tensor style, std::optional<Tensor> bias, std::optional<Tensor> noise,
                                    std::optional<Tensor> skip, std::optional<Tensor> to_rgb, double scale,
                                    double style_offset, bool demodulate, double eps, StringArgument activation,
                                    double alpha, double gain, std::optional<double> clamp, bool reduced_precision,
                                    bool channels_first, int64_t grad_mask) {
  const ModfcCall call = make_modfc_call(x, weight, style, bias, noise, skip, to_rgb, scale, style_offset, demodulate,
                                         eps, activation.take(), alpha, gain, clamp, reduced_precision, channels_first);
  return Backward(call, make_modfc_results(call, grad_y, grad_rgb, y, grad_mask),
                  make_modfc_kept(call, kept, demodulation), grad_mask);
}

}  // namespace cips3d
