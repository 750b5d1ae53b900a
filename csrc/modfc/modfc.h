// Contract of modfc: what its arguments are, checked once for the CPU and the CUDA library. The math is in
// modfc_math.h.
//
// Axes: B batch, N points, I in, O out.
//   x [B,N,I], weight [O,I], style [B,I], bias [O], noise [B,N,O], one dtype, one device -> y [B,N,O] of that dtype,
//   contiguous. The noise is read through its strides, since it is usually an expanded [N,1] or [B,N,1].
//   Forward also returns what its `keep` asks for, for backward alone: `kept` and d [B,O]. A backward that is given
//   empty tensors in their place computes what it needs again.
//
// Each library registers  m.impl("modfc", TORCH_BOX(&modfc_entry<modfc_cpu>))  with functions of the checked ModfcCall.
#pragma once
#include "common/check.h"
#include "modfc/modfc_math.h"

namespace cips3d {

// One checked call. All tensors but the noise are contiguous.
struct ModfcCall {
  Tensor x, weight, style;
  std::optional<Tensor> bias, noise;
  ModfcOptions options;
  ModfcSizes sizes;
  ModfcNoiseStrides noise_strides;
  bool reduced_precision;  // float32 products may round their operands (CUDA)
};

// What backward needs of forward beside d: nothing more (act and clamp are the identity), the branch of each element
// (uint8 [B,N,O], see kModfcBelow), or x W'^T before d ([B,N,O] in the compute dtype).
enum class ModfcKeep { kNothing, kDemodulation, kBranches, kLinear };

struct ModfcKept {
  Tensor kept, demodulation;
};

using ModfcOutputs = std::tuple<Tensor, Tensor, Tensor>;  // y and ModfcKept
using ModfcGradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// Positions in grad_mask and in the tuple that modfc_backward returns.
enum ModfcGradient : int { kModfcGradX, kModfcGradWeight, kModfcGradStyle, kModfcGradBias, kModfcGradNoise };

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
    check_shape(op, "noise", *call.noise, {sizes.batch, sizes.points, sizes.outputs}, "[B,N,O] like y (expand it)");
    check_like(op, "noise", *call.noise, "x", call.x);
  }
}

// The schema's arguments as one checked call.
inline ModfcCall make_modfc_call(const Tensor& x, const Tensor& weight, const Tensor& style,
                                 const std::optional<Tensor>& bias, const std::optional<Tensor>& noise, double scale,
                                 double style_offset, bool demodulate, double eps, const std::string& activation,
                                 double alpha, double gain, std::optional<double> clamp, bool reduced_precision) {
  check_floating("modfc", "x", x);
  check_dimensions("modfc", "x", x, 3, "[B,N,I]");
  check_dimensions("modfc", "weight", weight, 2, "[O,I]");
  STD_TORCH_CHECK(!clamp || *clamp >= 0, "modfc: clamp must be None or >= 0, got ", clamp.value_or(0));
  const ModfcOptions options{scale, style_offset,      demodulate,       eps, parse_modfc_activation(activation), alpha,
                             gain,  clamp.has_value(), clamp.value_or(0)};
  ModfcCall call{x,  weight,           style, bias, noise, options, {x.size(0), x.size(1), x.size(2), weight.size(0)},
                 {}, reduced_precision};
  check_modfc(call);
  call.x = as_contiguous(x);
  call.weight = as_contiguous(weight);
  call.style = as_contiguous(style);
  call.bias = as_contiguous(bias);
  if (noise) call.noise_strides = {noise->stride(0), noise->stride(1), noise->stride(2)};
  return call;
}

inline ModfcKept nothing_kept(const Tensor& like) { return {no_gradient(like), no_gradient(like)}; }

inline ModfcKept make_modfc_kept(const ModfcCall& call, const Tensor& kept, const Tensor& demodulation) {
  constexpr const char* op = "modfc_backward";
  const ModfcSizes& sizes = call.sizes;
  const ScalarType wide = computing_type(call.x.scalar_type()), type = kept.scalar_type();
  if (kept.numel() > 0) {
    check_shape(op, "kept", kept, {sizes.batch, sizes.points, sizes.outputs}, "[B,N,O] like y, or empty");
    STD_TORCH_CHECK(type == wide || type == ScalarType::Byte, op, ": kept must be ", wide, " or uint8, got ", type);
  }
  if (demodulation.numel() > 0) {
    check_shape(op, "demodulation", demodulation, {sizes.batch, sizes.outputs}, "[B,O], or empty");
    STD_TORCH_CHECK(demodulation.scalar_type() == wide, op, ": demodulation must be ", wide, ", got ",
                    demodulation.scalar_type());
  }
  return {as_contiguous(kept), as_contiguous(demodulation)};
}

using ModfcForward = ModfcOutputs(const ModfcCall&, ModfcKeep);

template <ModfcForward* Forward>
ModfcOutputs modfc_entry(Tensor x, Tensor weight, Tensor style, std::optional<Tensor> bias, std::optional<Tensor> noise,
                         double scale, double style_offset, bool demodulate, double eps, StringArgument activation,
                         double alpha, double gain, std::optional<double> clamp, bool reduced_precision,
                         StringArgument keep) {
  return Forward(make_modfc_call(x, weight, style, bias, noise, scale, style_offset, demodulate, eps, activation.take(),
                                 alpha, gain, clamp, reduced_precision),
                 parse_modfc_keep(keep.take()));
}

// Type of a library's backward: (call, grad_y contiguous, what forward kept, grad_mask); a gradient nobody wants is
// no_gradient().
using ModfcBackward = ModfcGradients(const ModfcCall&, const Tensor&, const ModfcKept&, int64_t);

template <ModfcBackward* Backward>
ModfcGradients modfc_backward_entry(Tensor grad_y, Tensor kept, Tensor demodulation, Tensor x, Tensor weight,
                                    Tensor style, std::optional<Tensor> bias, std::optional<Tensor> noise, double scale,
                                    double style_offset, bool demodulate, double eps, StringArgument activation,
                                    double alpha, double gain, std::optional<double> clamp, bool reduced_precision,
                                    int64_t grad_mask) {
  const ModfcCall call = make_modfc_call(x, weight, style, bias, noise, scale, style_offset, demodulate, eps,
                                         activation.take(), alpha, gain, clamp, reduced_precision);
  const ModfcSizes& sizes = call.sizes;
  check_shape("modfc_backward", "grad_y", grad_y, {sizes.batch, sizes.points, sizes.outputs}, "[B,N,O] like y");
  check_like("modfc_backward", "grad_y", grad_y, "x", x);
  return Backward(call, as_contiguous(grad_y), make_modfc_kept(call, kept, demodulation), grad_mask);
}

}  // namespace cips3d
