// modfc on the CPU: allocates, runs the kernels of this machine's SIMD level on torch's threads, registers the ops.
#include "modfc/modfc_cpu.h"
#include "common/cpu_call.h"
#include "common/cpu_dtype.h"
#include "common/parallel.h"
#include "modfc/modfc.h"

namespace cips3d {
namespace {

const ModfcCpuKernels& kernels_for(const Tensor& x) {
  return CIPS3D_CPU_KERNELS_WITH_BF16(modfc_cpu_kernels)[cpu_dtype_index(x)];
}

ModfcCpuCall plain_call(const ModfcCall& call) {
  ModfcCpuCall plain{};
  plain.sizes = call.sizes;
  plain.options = call.options;
  plain.noise_strides = call.noise_strides;
  plain.channels_first = call.channels_first;
  plain.x = data(call.x);
  plain.weight = data(call.weight);
  plain.style = data(call.style);
  plain.bias = data(call.bias);
  plain.noise = data(call.noise);
  plain.skip = data(call.skip);
  plain.to_rgb = data(call.to_rgb);
  return plain;
}

// Working memory of one call, held as long as the call runs.
class Memory {
 public:
  explicit Memory(const Tensor& x) : x_(x) {}
  void* operator()(int64_t count) { return data(held_.emplace_back(working_memory(x_, count))); }
  void* if_needed(bool needed, int64_t count) { return needed ? (*this)(count) : nullptr; }

 private:
  const Tensor& x_;
  std::vector<Tensor> held_;
};

// Any packing of the weight; the last step of depth may be half empty.
int64_t panels_size(const ModfcSizes& sizes) {
  return std::max({(sizes.inputs + 1) * padded(sizes.outputs), (sizes.outputs + 1) * padded(sizes.inputs),
                   padded(sizes.outputs, kBlockPadding) * row_stride(sizes.inputs)});
}

Tensor new_linear(const ModfcCall& call) {
  return on_huge_pages(torch::stable::new_empty(call.x, call.y_shape(), computing_type(call.x.scalar_type())));
}

// The kernels of forward, for y, rgb and what is kept of them, where `plain` points to memory for them.
void run_forward(const ModfcCall& call, ModfcCpuCall plain) {
  Memory memory(call.x);
  const ModfcCpuKernels& kernels = kernels_for(call.x);
  plain.panels = memory(panels_size(call.sizes));
  plain.squares = memory.if_needed(plain.demodulation, call.sizes.outputs * call.sizes.inputs);
  plain.square_panels = memory.if_needed(plain.demodulation, panels_size(call.sizes));
  kernels.pack(plain);
  const int64_t samples = plain.sample_tiles().count(), tiles = plain.tiles().count();
  if (plain.demodulation)
    parallel_shares(samples, worker_count(samples),
                    [&](int64_t, int64_t first, int64_t last) { kernels.demodulate(plain, first, last); });
  parallel_shares(tiles, worker_count(tiles),
                  [&](int64_t, int64_t first, int64_t last) { kernels.forward(plain, first, last); });
}

ModfcOutputs modfc_cpu(const ModfcCall& call, ModfcKeep keep) {
  const ModfcSizes& sizes = call.sizes;
  const std::vector<int64_t> shape = call.y_shape();
  const bool keeps = keep != ModfcKeep::kNothing, demodulate = call.options.demodulate;
  const auto make = [&](const std::vector<int64_t>& size, ScalarType type) {
    return on_huge_pages(torch::stable::new_empty(call.x, size, type));
  };
  const Tensor y = make(shape, call.x.scalar_type());
  Tensor rgb = no_gradient(call.x);
  if (call.to_rgb) rgb = make({sizes.batch, sizes.points, sizes.colours}, call.x.scalar_type());
  const Tensor kept = keep == ModfcKeep::kLinear     ? new_linear(call)
                      : keep == ModfcKeep::kBranches ? make(shape, ScalarType::Byte)
                                                     : no_gradient(call.x);
  Tensor d = no_gradient(call.x);
  if (demodulate) d = make({sizes.batch, sizes.outputs}, computing_type(call.x.scalar_type()));
  if (y.numel() > 0) {
    ModfcCpuCall plain = plain_call(call);
    plain.y = data(y);
    plain.rgb = call.to_rgb ? data(rgb) : nullptr;
    plain.linear = keep == ModfcKeep::kLinear ? data(kept) : nullptr;
    plain.branches = keep == ModfcKeep::kBranches ? static_cast<uint8_t*>(data(kept)) : nullptr;
    plain.demodulation = demodulate ? data(d) : nullptr;
    run_forward(call, plain);
  } else {
    zero_all(std::make_tuple(rgb));
  }
  return {y, rgb, kept, keeps ? d : no_gradient(call.x)};
}

// What forward kept, as pointers; what backward needs and was not given is computed again.
class Kept {
 public:
  Kept(const ModfcCall& call, const ModfcKept& given, ModfcCpuCall& plain)
      : kept_(given.kept), demodulation_(given.demodulation) {
    const ModfcOptions& options = call.options;
    const bool has_kept = kept_.numel() > 0, has_d = demodulation_.numel() > 0;
    const bool identity = options.activation == ModfcActivation::kLinear && !options.has_clamp;
    const bool through_d = options.demodulate && (plain.grad_weight || plain.grad_style);
    if (options.demodulate && !has_d) demodulation_ = working_memory(call.x, call.sizes.batch * call.sizes.outputs);
    plain.demodulation = options.demodulate ? data(demodulation_) : nullptr;
    const bool needs_linear = !has_kept && (!identity || (through_d && !has_d));
    if (needs_linear) kept_ = new_linear(call);
    if (needs_linear || (options.demodulate && !has_d)) {
      ModfcCpuCall again = plain;
      again.linear = needs_linear ? data(kept_) : nullptr;
      run_forward(call, again);
    }
    if (kept_.numel() == 0) return;
    if (kept_.scalar_type() == ScalarType::Byte) {
      plain.branches = static_cast<uint8_t*>(data(kept_));
    } else {
      plain.linear = data(kept_);
    }
  }

 private:
  Tensor kept_, demodulation_;
};

void run_backward(const ModfcCall& call, ModfcCpuCall plain) {
  const ModfcCpuKernels& kernels = kernels_for(call.x);
  const int64_t inputs = call.sizes.inputs, outputs = call.sizes.outputs, groups = padded(outputs) / kPadding;
  const int64_t tiles = plain.tiles().count(), samples = plain.sample_tiles().count();
  const int64_t segments = plain.tiles().segments(), partial = plain.weight_partial();
  const int64_t workers = worker_count(tiles), square_workers = worker_count(samples);
  const bool through_d = plain.demodulation && (plain.grad_weight || plain.grad_style);
  Memory memory(call.x);
  plain.grad_panels = memory.if_needed(plain.grad_x || plain.grad_style, panels_size(call.sizes));
  plain.squares = memory.if_needed(through_d && plain.grad_style, outputs * inputs);
  plain.grad_square_panels = memory.if_needed(plain.squares, panels_size(call.sizes));
  plain.bias_sums = memory.if_needed(plain.grad_bias, tiles * padded(outputs));
  plain.to_rgb_sums = memory.if_needed(plain.grad_to_rgb, tiles * call.sizes.colours * padded(outputs));
  plain.demodulation_sums = memory.if_needed(through_d, segments * padded(outputs));
  plain.style_sums = memory.if_needed(plain.grad_panels, segments * padded(inputs));
  plain.weight_partials = memory.if_needed(plain.grad_weight, workers * partial);
  plain.sample_partials = memory.if_needed(through_d && !plain.linear, workers * partial);
  plain.square_partials = memory.if_needed(through_d && plain.grad_weight, square_workers * partial);

  kernels.pack(plain);
  parallel_shares(tiles, workers,
                  [&](int64_t worker, int64_t first, int64_t last) { kernels.backward(plain, worker, first, last); });
  if (plain.grad_bias || plain.grad_to_rgb)
    parallel_shares(groups, worker_count(groups), [&](int64_t, int64_t first, int64_t last) {
      kernels.reduce_tiles(plain, first * kPadding, std::min(last * kPadding, outputs));
    });
  if (through_d || plain.grad_style)
    parallel_shares(samples, square_workers, [&](int64_t worker, int64_t first, int64_t last) {
      kernels.backward_style(plain, worker, first, last);
    });
  if (plain.grad_weight)
    parallel_shares(outputs, worker_count(outputs), [&](int64_t, int64_t first, int64_t last) {
      kernels.reduce_weight(plain, workers, square_workers, first, last);
    });
}

ModfcGradients modfc_backward_cpu(const ModfcCall& call, const ModfcResults& results, const ModfcKept& given,
                                  int64_t grad_mask) {
  const auto wanted = [&](ModfcGradient which) { return (grad_mask >> which & 1) != 0; };
  const auto gradient = [&](ModfcGradient which, const std::optional<Tensor>& like) {
    return like && wanted(which) ? output_like(*like) : no_gradient(call.x);
  };
  const ModfcGradients grads{gradient(kModfcGradX, call.x),         gradient(kModfcGradWeight, call.weight),
                             gradient(kModfcGradStyle, call.style), gradient(kModfcGradBias, call.bias),
                             gradient(kModfcGradNoise, call.noise), gradient(kModfcGradSkip, call.skip),
                             gradient(kModfcGradToRgb, call.to_rgb)};
  if (call.sizes.batch * call.sizes.points * call.sizes.outputs == 0) return zero_all(grads);

  const auto pointer = [&](ModfcGradient which, const Tensor& grad) { return wanted(which) ? data(grad) : nullptr; };
  ModfcCpuCall plain = plain_call(call);
  plain.grad_y = data(results.grad_y);
  plain.grad_rgb = data(results.grad_rgb);
  plain.kept_y = data(results.y);
  plain.grad_x = pointer(kModfcGradX, std::get<kModfcGradX>(grads));
  plain.grad_weight = pointer(kModfcGradWeight, std::get<kModfcGradWeight>(grads));
  plain.grad_style = pointer(kModfcGradStyle, std::get<kModfcGradStyle>(grads));
  plain.grad_bias = call.bias ? pointer(kModfcGradBias, std::get<kModfcGradBias>(grads)) : nullptr;
  plain.grad_noise = call.noise ? pointer(kModfcGradNoise, std::get<kModfcGradNoise>(grads)) : nullptr;
  plain.grad_skip = call.skip ? pointer(kModfcGradSkip, std::get<kModfcGradSkip>(grads)) : nullptr;
  const Tensor& grad_to_rgb = std::get<kModfcGradToRgb>(grads);
  if (results.grad_rgb) {
    plain.grad_to_rgb = pointer(kModfcGradToRgb, grad_to_rgb);
  } else {
    zero_all(std::make_tuple(grad_to_rgb));
  }
  const Kept kept(call, given, plain);
  run_backward(call, plain);
  return grads;
}

}  // namespace
}  // namespace cips3d

STABLE_TORCH_LIBRARY_IMPL(cips3d_ext, CPU, m) {
  m.impl("modfc", TORCH_BOX(&cips3d::modfc_entry<cips3d::modfc_cpu>));
  m.impl("modfc_backward", TORCH_BOX(&cips3d::modfc_backward_entry<cips3d::modfc_backward_cpu>));
}
