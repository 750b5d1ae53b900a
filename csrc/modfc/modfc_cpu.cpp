// modfc on the CPU: allocates, runs the kernels of this machine's SIMD level on torch's threads, registers the ops.
#include "modfc/modfc_cpu.h"
#include "common/cpu_call.h"
#include "common/cpu_dtype.h"
#include "common/parallel.h"
#include "modfc/modfc.h"

namespace cips3d {
namespace {

const ModfcCpuKernels& kernels_for(const Tensor& x) {
  return CIPS3D_CPU_KERNELS(modfc_cpu_kernels)[cpu_dtype_index(x)];
}

ModfcCpuCall plain_call(const ModfcCall& call) {
  ModfcCpuCall plain{};
  plain.sizes = call.sizes;
  plain.options = call.options;
  plain.noise_strides = call.noise_strides;
  plain.x = data(call.x);
  plain.weight = data(call.weight);
  plain.style = data(call.style);
  plain.bias = data(call.bias);
  plain.noise = data(call.noise);
  return plain;
}

// Packs the weight and computes d, for forward and backward; the call must have its working memory.
void prepare(const ModfcCpuKernels& kernels, const ModfcCpuCall& plain) {
  kernels.pack(plain);
  if (!plain.demodulation) return;
  const int64_t tiles = plain.sample_tiles().count();
  parallel_shares(tiles, worker_count(tiles),
                  [&](int64_t, int64_t first, int64_t last) { kernels.demodulate(plain, first, last); });
}

Tensor modfc_cpu(const ModfcCall& call) {
  const ModfcSizes& sizes = call.sizes;
  Tensor y = on_huge_pages(torch::stable::new_empty(call.x, {sizes.batch, sizes.points, sizes.outputs}));
  if (y.numel() == 0) return y;
  const bool demodulate = call.options.demodulate;
  const Tensor panels = working_memory(call.x, sizes.inputs * padded(sizes.outputs));
  const Tensor demodulation = working_memory(call.x, demodulate ? sizes.batch * padded(sizes.outputs) : 0);
  ModfcCpuCall plain = plain_call(call);
  plain.y = data(y);
  plain.panels = data(panels);
  plain.demodulation = demodulate ? data(demodulation) : nullptr;

  const ModfcCpuKernels& kernels = kernels_for(call.x);
  prepare(kernels, plain);
  const int64_t tiles = plain.tiles().count();
  parallel_shares(tiles, worker_count(tiles),
                  [&](int64_t, int64_t first, int64_t last) { kernels.forward(plain, first, last); });
  return y;
}

// The backward's working memory, held for one call.
struct BackwardMemory {
  Tensor panels, grad_panels, demodulation, grad_square, output_sums, style_sums, weight_partials, square_partials;

  BackwardMemory(const ModfcCall& call, ModfcCpuCall& plain, int64_t workers, int64_t square_workers) {
    const ModfcSizes& sizes = call.sizes;
    const bool demodulate = call.options.demodulate, input_product = plain.grad_x || plain.grad_style;
    const int64_t segments = plain.tiles().segments(), partial = plain.grad_weight ? plain.weight_partial() : 0;
    const auto allocate = [&](Tensor& memory, int64_t count) {
      memory = working_memory(call.x, count);
      return data(memory);
    };
    plain.panels = allocate(panels, sizes.inputs * padded(sizes.outputs));
    plain.output_sums = allocate(output_sums, segments * 2 * padded(sizes.outputs));
    plain.weight_partials = allocate(weight_partials, workers * partial);
    if (input_product) plain.grad_panels = allocate(grad_panels, sizes.outputs * padded(sizes.inputs));
    if (input_product) plain.style_sums = allocate(style_sums, segments * padded(sizes.inputs));
    if (!demodulate) return;
    plain.demodulation = allocate(demodulation, sizes.batch * padded(sizes.outputs));
    plain.grad_square = allocate(grad_square, sizes.batch * padded(sizes.outputs));
    plain.square_partials = allocate(square_partials, square_workers * partial);
  }
};

void run_backward(const ModfcCpuKernels& kernels, const ModfcCpuCall& plain, int64_t workers, int64_t square_workers) {
  const int64_t outputs = plain.sizes.outputs, groups = padded(outputs) / kPadding;
  prepare(kernels, plain);
  parallel_shares(plain.tiles().count(), workers,
                  [&](int64_t worker, int64_t first, int64_t last) { kernels.backward(plain, worker, first, last); });
  const bool through_style = plain.grad_style || (plain.grad_weight && plain.demodulation);
  if (plain.grad_bias || through_style)
    parallel_shares(groups, worker_count(groups), [&](int64_t, int64_t first, int64_t last) {
      kernels.reduce_outputs(plain, first * kPadding, std::min(last * kPadding, outputs));
    });
  if (through_style)
    parallel_shares(plain.sample_tiles().count(), square_workers, [&](int64_t worker, int64_t first, int64_t last) {
      kernels.backward_style(plain, worker, first, last);
    });
  if (plain.grad_weight)
    parallel_shares(outputs, worker_count(outputs), [&](int64_t, int64_t first, int64_t last) {
      kernels.reduce_weight(plain, workers, square_workers, first, last);
    });
}

ModfcGradients modfc_backward_cpu(const ModfcCall& call, const Tensor& grad_y, int64_t grad_mask) {
  const auto wanted = [&](ModfcGradient which) { return (grad_mask >> which & 1) != 0; };
  const auto gradient = [&](ModfcGradient which, const std::optional<Tensor>& like) {
    return like && wanted(which) ? output_like(*like) : no_gradient(call.x);
  };
  const ModfcGradients grads{gradient(kModfcGradX, call.x), gradient(kModfcGradWeight, call.weight),
                             gradient(kModfcGradStyle, call.style), gradient(kModfcGradBias, call.bias),
                             gradient(kModfcGradNoise, call.noise)};
  if (grad_y.numel() == 0) return zero_all(grads);

  const auto pointer = [&](ModfcGradient which, const Tensor& grad) { return wanted(which) ? data(grad) : nullptr; };
  ModfcCpuCall plain = plain_call(call);
  plain.grad_y = data(grad_y);
  plain.grad_x = pointer(kModfcGradX, std::get<kModfcGradX>(grads));
  plain.grad_weight = pointer(kModfcGradWeight, std::get<kModfcGradWeight>(grads));
  plain.grad_style = pointer(kModfcGradStyle, std::get<kModfcGradStyle>(grads));
  plain.grad_bias = call.bias ? pointer(kModfcGradBias, std::get<kModfcGradBias>(grads)) : nullptr;
  plain.grad_noise = call.noise ? pointer(kModfcGradNoise, std::get<kModfcGradNoise>(grads)) : nullptr;
  const int64_t workers = worker_count(plain.tiles().count());
  const int64_t square_workers = worker_count(plain.sample_tiles().count());
  const BackwardMemory memory(call, plain, workers, square_workers);
  run_backward(kernels_for(call.x), plain, workers, square_workers);
  return grads;
}

}  // namespace
}  // namespace cips3d

STABLE_TORCH_LIBRARY_IMPL(cips3d_ext, CPU, m) {
  m.impl("modfc", TORCH_BOX(&cips3d::modfc_entry<cips3d::modfc_cpu>));
  m.impl("modfc_backward", TORCH_BOX(&cips3d::modfc_backward_entry<cips3d::modfc_backward_cpu>));
}
