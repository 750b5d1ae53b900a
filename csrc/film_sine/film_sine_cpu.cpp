// film_sine on the CPU: allocates, runs the kernels of this machine's SIMD level on torch's threads, registers the ops.
#include "film_sine/film_sine_cpu.h"
#include "common/cpu_call.h"
#include "common/cpu_dtype.h"
#include "common/parallel.h"
#include "film_sine/film_sine.h"

namespace cips3d {
namespace {

const FilmSineCpuKernels& kernels_for(const Tensor& x) {
  return CIPS3D_CPU_KERNELS_WITH_BF16(film_sine_cpu_kernels)[cpu_dtype_index(x)];
}

FilmSineCpuCall plain_call(const FilmSineCall& call) {
  FilmSineCpuCall plain{};
  plain.sizes = call.sizes;
  plain.options = call.options;
  plain.x = data(call.x);
  plain.weight = data(call.weight);
  plain.bias = data(call.bias);
  plain.gamma = data(call.gamma);
  plain.beta = data(call.beta);
  return plain;
}

FilmSineOutputs film_sine_cpu(const FilmSineCall& call, bool keep_linear) {
  const FilmSineSizes& sizes = call.sizes;
  const std::vector<int64_t> shape{sizes.batch, sizes.points, sizes.outputs};
  const ScalarType wide = computing_type(call.x.scalar_type());
  const Tensor y = on_huge_pages(torch::stable::new_empty(call.x, shape));
  const Tensor linear =
      keep_linear ? on_huge_pages(torch::stable::new_empty(call.x, shape, wide)) : no_gradient(call.x);
  if (y.numel() == 0) return {y, linear};
  const FilmSineCpuKernels& kernels = kernels_for(call.x);
  FilmSineCpuCall plain = plain_call(call);
  const Tensor panels = working_memory(call.x, sizes.inputs * padded(sizes.outputs));
  plain.panels = data(panels);
  plain.y = data(y);
  plain.linear = keep_linear ? data(linear) : nullptr;
  kernels.pack(plain);
  const int64_t tiles = plain.tiles().count();
  parallel_shares(tiles, worker_count(tiles),
                  [&](int64_t, int64_t first, int64_t last) { kernels.forward(plain, first, last); });
  return {y, linear};
}

using Reduction = decltype(FilmSineCpuKernels::reduce_film);

// The gradients that are sums over tiles: grad_weight of the workers' shares, the others by `reduce_film`.
void reduce(const FilmSineCpuCall& call, const FilmSineCpuKernels& kernels, int64_t workers, Reduction reduce_film) {
  const int64_t outputs = call.sizes.outputs;
  if (call.grad_weight)
    parallel_shares(outputs, worker_count(outputs),
                    [&](int64_t, int64_t first, int64_t last) { kernels.reduce_weight(call, workers, first, last); });
  if (!call.grad_bias && !call.grad_gamma && !call.grad_beta) return;
  const int64_t groups = padded(outputs) / kPadding;
  parallel_shares(groups, worker_count(groups), [&](int64_t, int64_t first, int64_t last) {
    reduce_film(call, first * kPadding, std::min(last * kPadding, outputs));
  });
}

// Runs a pass over the tiles that keeps `sums` sums a segment, then the reduction of them. multiplies_inputs: whether
// the pass needs the panels of products with the weights.
void run_backward(const Tensor& x, FilmSineCpuCall call, bool multiplies_inputs, int64_t sums,
                  decltype(FilmSineCpuKernels::backward) pass, Reduction reduce_film) {
  const FilmSineSizes& sizes = call.sizes;
  const RowTiles tiles = call.tiles();
  const int64_t workers = worker_count(tiles.count());
  const Tensor panels = working_memory(x, multiplies_inputs ? sizes.inputs * padded(sizes.outputs) : 0);
  const Tensor grad_panels = working_memory(x, call.grad_x ? sizes.outputs * padded(sizes.inputs) : 0);
  const Tensor weight_partials = working_memory(x, call.grad_weight ? workers * call.weight_partial() : 0);
  const Tensor segment_sums = working_memory(x, tiles.segments() * sums * padded(sizes.outputs));
  call.panels = multiplies_inputs ? data(panels) : nullptr;
  call.grad_panels = call.grad_x ? data(grad_panels) : nullptr;
  call.weight_partials = data(weight_partials);
  call.segment_sums = data(segment_sums);

  const FilmSineCpuKernels& kernels = kernels_for(x);
  kernels.pack(call);
  parallel_shares(tiles.count(), workers,
                  [&](int64_t worker, int64_t first, int64_t last) { pass(call, worker, first, last); });
  reduce(call, kernels, workers, reduce_film);
}

FilmSineGradients film_sine_backward_cpu(const FilmSineCall& call, const Tensor& grad_y, const Tensor& linear,
                                         int64_t grad_mask) {
  const auto gradient = [&](FilmSineGradient which, const std::optional<Tensor>& like) {
    return like && (grad_mask >> which & 1) ? std::optional<Tensor>(output_like(*like)) : std::nullopt;
  };
  const std::optional<Tensor> grad_x = gradient(kFilmGradX, call.x),
                              grad_weight = gradient(kFilmGradWeight, call.weight),
                              grad_bias = gradient(kFilmGradBias, call.bias),
                              grad_gamma = gradient(kFilmGradGamma, call.gamma),
                              grad_beta = gradient(kFilmGradBeta, call.beta);
  const FilmSineGradients grads{gradient_or_none(grad_x, call.x), gradient_or_none(grad_weight, call.x),
                                gradient_or_none(grad_bias, call.x), gradient_or_none(grad_gamma, call.x),
                                gradient_or_none(grad_beta, call.x)};
  FilmSineCpuCall plain = plain_call(call);
  plain.grad_y = data(grad_y);
  plain.grad_x = data(grad_x);
  plain.grad_weight = data(grad_weight);
  plain.grad_bias = data(grad_bias);
  plain.grad_gamma = data(grad_gamma);
  plain.grad_beta = data(grad_beta);
  plain.linear = linear.numel() > 0 ? data(linear) : nullptr;
  if (grad_y.numel() == 0) return zero_all(grads);

  const FilmSineCpuKernels& kernels = kernels_for(call.x);
  run_backward(call.x, plain, !plain.linear, kFilmSums, kernels.backward, kernels.reduce_film);
  return grads;
}

FilmSineSecondGradients film_sine_second_cpu(const FilmSineCall& call, const FilmSineSecondCall& second,
                                             int64_t grad_mask) {
  const auto gradient = [&](int which, const std::optional<Tensor>& like) {
    return like && (grad_mask >> which & 1) ? std::optional<Tensor>(output_like(*like)) : std::nullopt;
  };
  const auto of_input = [&](FilmSineGradient which, const std::optional<Tensor>& like) {
    return gradient(kFilmSecondInputs + which, like);
  };
  const std::optional<Tensor> grad_grad_y = gradient(kFilmSecondGradY, second.grad_y),
                              grad_x = of_input(kFilmGradX, call.x),
                              grad_weight = of_input(kFilmGradWeight, call.weight),
                              grad_bias = of_input(kFilmGradBias, call.bias),
                              grad_gamma = of_input(kFilmGradGamma, call.gamma),
                              grad_beta = of_input(kFilmGradBeta, call.beta);
  const FilmSineSecondGradients grads{gradient_or_none(grad_grad_y, call.x), gradient_or_none(grad_x, call.x),
                                      gradient_or_none(grad_weight, call.x), gradient_or_none(grad_bias, call.x),
                                      gradient_or_none(grad_gamma, call.x),  gradient_or_none(grad_beta, call.x)};
  if (second.grad_y.numel() == 0) return zero_all(grads);
  FilmSineCpuCall plain = plain_call(call);
  plain.direction_x = data(second.direction_x);
  plain.direction_gamma = data(second.direction_gamma);
  plain.direction_beta = data(second.direction_beta);
  plain.grad_y = data(second.grad_y);
  plain.linear = second.linear.numel() > 0 ? data(second.linear) : nullptr;
  plain.grad_grad_y = data(grad_grad_y);
  plain.grad_x = data(grad_x);
  plain.grad_weight = data(grad_weight);
  plain.grad_bias = data(grad_bias);
  plain.grad_gamma = data(grad_gamma);
  plain.grad_beta = data(grad_beta);

  const FilmSineCpuKernels& kernels = kernels_for(call.x);
  const bool multiplies_inputs = plain.direction_x || !plain.linear;
  run_backward(call.x, plain, multiplies_inputs, kFilmSecondSums, kernels.second, kernels.reduce_second);
  return grads;
}

}  // namespace
}  // namespace cips3d

STABLE_TORCH_LIBRARY_IMPL(cips3d_ext, CPU, m) {
  m.impl("film_sine", TORCH_BOX(&cips3d::film_sine_entry<cips3d::film_sine_cpu>));
  m.impl("film_sine_backward", TORCH_BOX(&cips3d::film_sine_backward_entry<cips3d::film_sine_backward_cpu>));
  m.impl("film_sine_second", TORCH_BOX(&cips3d::film_sine_second_entry<cips3d::film_sine_second_cpu>));
}
