// modfc's backward on the CPU.
//
// Computes  the gradients of all inputs from grad_y, grad_rgb and what forward kept (ModfcCpuCall)
// Axes      as in modfc_cpu_kernels.h
// Launch    a worker adds the tiles it takes to its own share of grad_weight
// Traffic   reads x, grad_y and what was kept, and writes grad_x and grad_skip once
// Numerics  float32 (float64 for float64), rounded once at the end; bfloat16 with dot products: grad_linear and d's
//           gradient are rounded too; sums over points tile by tile
// Limit     the multiply-adds of two products as large as forward's. d's gradient, sum_n grad_u linear, has no product
//           of its own: it takes `linear` where that was kept (few points a sample), and where there are many points a
//           sample it is sum_i W grad_W of that sample
#pragma once
#include "modfc/modfc_cpu_block.h"
#include "modfc/modfc_cpu_colours.h"

namespace cips3d::CIPS3D_SIMD_NS {
namespace {

// A sum that grows row by row; the first one need not find zeros there.
template <class T>
CIPS3D_INLINE void add_to(T* sum, bool is_first, Vec<T> v) {
  store(sum, is_first ? v : load(sum) + v);
}

// Where the sums over points of one tile and segment grow; null where nobody wants them.
template <class T>
struct PointSums {
  T *bias, *to_rgb, *demodulation;
};

// x W'^T before d where it was kept, and the gradient of u, for a vector of elements.
template <class T>
struct ArgumentGradient {
  Vec<T> linear, grad_u;
};

// From the gradient of y and what forward kept at `at`; addends(): noise + bias.
template <class S, class Addends>
CIPS3D_INLINE ArgumentGradient<Compute<S>> grad_of_argument(const ModfcCpuCall& call, const Output<S>& output,
                                                            int64_t at, int64_t left, Vec<Compute<S>> d,
                                                            Vec<Compute<S>> grad, const Addends& addends) {
  using T = Compute<S>;
  if (call.linear) {
    const Vec<T> linear = load_first(static_cast<const T*>(call.linear) + at, left);
    return {linear, output.gradient(linear * d + addends(), grad)};
  }
  if (call.branches) return {Vec<T>{}, output.gradient_in_branch(load_bytes<T>(call.branches + at, left), grad)};
  return {Vec<T>{}, grad * output.gain};
}

// grad_linear of one row into `z`, grad_noise and grad_skip, and the row's shares of the sums over points.
template <class S>
CIPS3D_INLINE void backward_row(const ModfcCpuCall& call, const Output<S>& shared_output, int64_t sample, int64_t row,
                                bool first_of_tile, bool first_of_segment, const PointSums<Compute<S>>& sums,
                                Destination<S> grad_skip, Operand<S>* z) {
  using T = Compute<S>;
  const Output<S> output = shared_output;
  const GradOfRow<S> grad_of_row(call, row);
  const int64_t outputs = call.sizes.outputs, point = row - sample * call.sizes.points;
  S* grad_noise = static_cast<S*>(call.grad_noise);
  for (int64_t j = 0; j < outputs; j += kLanes<T>) {
    const int64_t at = row * outputs + j, left = outputs - j;
    const Vec<T> d = output.demodulation_at(sample, j), grad = grad_of_row.at(j);
    const auto [linear, grad_u] = grad_of_argument<S>(
        call, output, at, left, d, grad, [&] { return output.noise_at(sample, point, j) + output.bias_at(j); });
    const Vec<T> grad_linear = grad_u * d;
    if (grad_skip.array) grad_skip.write(at, left, grad);
    if (grad_noise) store_first(grad_noise + at, left, grad_u);
    if (sums.bias) add_to(sums.bias + j, first_of_tile, grad_u);
    if (sums.to_rgb) grad_of_row.add_to_rgb_terms(j, first_of_tile, sums.to_rgb);
    if (sums.demodulation) add_to(sums.demodulation + j, first_of_segment, grad_linear * linear);
    store(z + j, grad_linear);
  }
}

template <class S>
void backward_outputs(const ModfcCpuCall& call, const Output<S>& output, const TileRows& tile, int64_t rows,
                      Destination<S> grad_skip, Operand<S>* z) {
  using T = Compute<S>;
  const int64_t width = padded(call.sizes.outputs);
  PointSums<T> sums{};
  if (call.bias_sums) sums.bias = static_cast<T*>(call.bias_sums) + tile.tile() * width;
  if (call.to_rgb_sums) sums.to_rgb = static_cast<T*>(call.to_rgb_sums) + tile.tile() * call.sizes.colours * width;
  tile.for_each_sample(0, rows, [&](int64_t sample, int64_t begin, int64_t end) {
    const int64_t segment = call.tiles().segment(tile.tile(), sample);
    if (call.demodulation_sums) sums.demodulation = static_cast<T*>(call.demodulation_sums) + segment * width;
    for (int64_t row = begin; row < end; ++row)
      backward_row<S>(call, output, sample, tile.tile() * kTileRows + row, row == 0, row == begin, sums, grad_skip,
                      z + row * row_stride(call.sizes.outputs));
  });
}

// From `c`, one block of the gradient of x * m: grad_x, and the block's share of m's gradient.
template <class S>
CIPS3D_INLINE void backward_inputs(const ModfcCpuCall& call, const ModulatedTile<S>& input, int64_t first_row,
                                   int64_t rows, int64_t first_column, const Compute<S>* c, Destination<S> grad_x) {
  using T = Compute<S>;
  const int64_t inputs = call.sizes.inputs;
  const TileRows& tile = input.rows();
  const S* x = static_cast<const S*>(call.x);
  tile.for_each_sample(first_row, rows, [&](int64_t sample, int64_t begin, int64_t end) {
    T* sums = static_cast<T*>(call.style_sums) + call.tiles().segment(tile.tile(), sample) * padded(inputs);
    for (int v = 0; v < kPanel<T> && first_column + v < inputs; v += kLanes<T>) {
      const int64_t k = first_column + v;
      const Vec<T> m = load(input.modulation(sample) + k);
      Vec<T> sum = tile.starts_segment(begin) ? Vec<T>{} : load(sums + k);
      for (int64_t row = begin; row < end; ++row) {
        const int64_t at = (tile.tile() * kTileRows + row) * inputs + k;
        const Vec<T> grad = load(c + (row - first_row) * kPanel<T> + v);
        sum += grad * load_first(x + at, inputs - k);
        if (grad_x.array) grad_x.write(at, inputs - k, grad * m);
      }
      store(sums + k, sum);
    }
  });
}

// What the rows of one sample gave: d's gradient sum_i W grad_W (times d), then grad_W to the worker's sum, if wanted.
template <class S>
void finish_sample(const ModfcCpuCall& call, int64_t segment, Compute<S>* sample_partial, Compute<S>* weight_partial) {
  using T = Compute<S>;
  const int64_t inputs = call.sizes.inputs, outputs = call.sizes.outputs;
  const S* weight = static_cast<const S*>(call.weight);
  T* sums = static_cast<T*>(call.demodulation_sums) + segment * padded(outputs);
  for (int64_t o = 0; o < outputs; ++o) {
    Vec<T> total = {};
    for (int64_t k = 0; k < inputs; k += kLanes<T>) {
      const int64_t at = o * row_stride(inputs) + k;
      const Vec<T> grad = load(sample_partial + at);
      total += grad * load_first(weight + o * inputs + k, inputs - k);
      if (call.grad_weight) store(weight_partial + at, load(weight_partial + at) + grad);
      store(sample_partial + at, Vec<T>{});
    }
    sums[o] = sum(total);
  }
}

// One worker's share of grad_weight, in one sum or sample by sample.
template <class S>
class WeightGradient {
 public:
  using T = Compute<S>;
  using E = Operand<S>;

  WeightGradient(const ModfcCpuCall& call, int64_t worker)
      : call_(call),
        total_(static_cast<T*>(call.weight_partials) + worker * call.weight_partial()),
        of_sample_(static_cast<T*>(call.sample_partials) + worker * call.weight_partial()),
        steps_(step_rows_size<E>(kTileRows, row_stride(call.sizes.outputs))) {
    if (call.grad_weight) fill_zero(total_, call.weight_partial());
    if (call.sample_partials) fill_zero(of_sample_, call.weight_partial());
  }

  void add(const TileRows& tile, int64_t rows, const E* z, const E* x, bool last_tile) {
    const int64_t outputs = call_.sizes.outputs, inputs = call_.sizes.inputs;
    const int64_t z_stride = row_stride(outputs), x_stride = row_stride(inputs);
    const auto accumulate = [&](int64_t begin, int64_t end, T* to) {
      const Unit<E>* z_steps = step_rows<E>(z + begin * z_stride, end - begin, z_stride, steps_);
      accumulate_transposed(end - begin, outputs, inputs, z_steps, z_stride, x + begin * x_stride, x_stride, to);
    };
    if (!call_.sample_partials) {
      if (call_.grad_weight) accumulate(0, rows, total_);
      return;
    }
    tile.for_each_sample(0, rows, [&](int64_t sample, int64_t begin, int64_t end) {
      accumulate(begin, end, of_sample_);
      finish_if_last(tile.tile(), sample, last_tile && end == rows);
    });
  }

  // Of a tile of columns of one sample.
  void add_columns(int64_t tile, int64_t sample, int64_t columns, const E* z, const E* x, int64_t stride,
                   bool last_tile) {
    if (!call_.sample_partials && !call_.grad_weight) return;
    accumulate_transposed_columns(columns, call_.sizes.outputs, call_.sizes.inputs, z, x, stride,
                                  call_.sample_partials ? of_sample_ : total_);
    if (call_.sample_partials) finish_if_last(tile, sample, last_tile);
  }

 private:
  void finish_if_last(int64_t tile, int64_t sample, bool last) {
    const RowTiles tiles = call_.tiles();
    const int64_t segment = tiles.segment(tile, sample);
    if (last || segment == tiles.last_segment(sample)) finish_sample<S>(call_, segment, of_sample_, total_);
  }

  const ModfcCpuCall& call_;
  T *total_, *of_sample_;
  Scratch<Unit<E>> steps_;
};

template <class S>
void backward_tiles(const ModfcCpuCall& call, int64_t worker, int64_t first_tile, int64_t last_tile) {
  using T = Compute<S>;
  using E = Operand<S>;
  const int64_t inputs = call.sizes.inputs, outputs = call.sizes.outputs;
  const RowTiles tiles = call.tiles();
  const Destination<S> grad_x(call.grad_x, tiles.rows(), inputs);
  const Destination<S> grad_skip(call.grad_skip, tiles.rows(), outputs);
  const Output<S> output(call);
  ModulatedTile<S> input(call);
  ZeroedScratch<E> z(kTileRows * row_stride(outputs));
  WeightGradient<S> weight_gradient(call, worker);
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    const int64_t rows = tiles.rows_in(tile);
    input.enter(tile);
    backward_outputs<S>(call, output, input.rows(), rows, grad_skip, z);
    weight_gradient.add(input.rows(), rows, z, input.x(), tile + 1 == last_tile);
    if (!call.grad_panels) continue;
    multiply(rows, outputs, inputs, static_cast<const E*>(z), row_stride(outputs),
             static_cast<const E*>(call.grad_panels), [&](int64_t first_row, int64_t n, int64_t column, const T* c) {
               backward_inputs<S>(call, input, first_row, n, column, c, grad_x);
             });
  }
  grad_x.finish();
  grad_skip.finish();
}

// Some outputs of grad_bias and grad_to_rgb from the tiles' sums.
template <class S>
void reduce_tiles(const ModfcCpuCall& call, int64_t first_output, int64_t last_output) {
  using T = Compute<S>;
  const int64_t outputs = call.sizes.outputs, width = padded(outputs), colours = call.sizes.colours;
  const auto add_up = [&](const T* sums, int64_t stride, S* gradient) {
    for (int64_t j = first_output; j < last_output; j += kLanes<T>) {
      Vec<T> total = {};
      for (int64_t tile = 0; tile < call.tiles().count(); ++tile) total += load(sums + tile * stride + j);
      store_first(gradient + j, outputs - j, total);
    }
  };
  if (call.bias_sums) add_up(static_cast<const T*>(call.bias_sums), width, static_cast<S*>(call.grad_bias));
  for (int64_t k = 0; call.to_rgb_sums && k < colours; ++k)
    add_up(static_cast<const T*>(call.to_rgb_sums) + k * width, colours * width,
           static_cast<S*>(call.grad_to_rgb) + k * outputs);
}

// The gradients of one sample's square sums, as a row for a product.
template <class S>
void load_grad_squares(const ModfcCpuCall& call, int64_t sample, Operand<S>* to) {
  using T = Compute<S>;
  const int64_t outputs = call.sizes.outputs;
  const RowTiles tiles = call.tiles();
  for (int64_t j = 0; j < outputs; j += kLanes<T>) {
    Vec<T> total = {};
    for (int64_t s = tiles.first_segment(sample); s <= tiles.last_segment(sample); ++s)
      total += load_first(static_cast<const T*>(call.demodulation_sums) + s * padded(outputs) + j, outputs - j);
    const Vec<T> d = load_first(static_cast<const T*>(call.demodulation) + sample * outputs + j, outputs - j);
    store(to + j, modfc_grad_square_sum(total, d));
  }
}

// grad_style of a tile's samples from one block of grad_square W^2 (zero without demodulation) and the sums over
// points: m's gradient is their sum with 2 m (grad_square W^2).
template <class S>
CIPS3D_INLINE void style_block(const ModfcCpuCall& call, int64_t first_sample, int64_t samples, int64_t first_column,
                               const Compute<S>* c, const Compute<S>* modulations) {
  using T = Compute<S>;
  const int64_t inputs = call.sizes.inputs;
  const RowTiles tiles = call.tiles();
  for (int64_t i = 0; i < samples; ++i) {
    const int64_t sample = first_sample + i;
    const T* m = modulations + i * padded(inputs);
    for (int v = 0; v < kPanel<T> && first_column + v < inputs; v += kLanes<T>) {
      const int64_t k = first_column + v;
      Vec<T> grad = 2 * load(m + k) * load(c + i * kPanel<T> + v);
      for (int64_t s = tiles.first_segment(sample); s <= tiles.last_segment(sample); ++s)
        grad += load(static_cast<const T*>(call.style_sums) + s * padded(inputs) + k);
      store_first(static_cast<S*>(call.grad_style) + sample * inputs + k, inputs - k, T(call.options.scale) * grad);
    }
  }
}

template <class S>
void backward_style(const ModfcCpuCall& call, int64_t worker, int64_t first_tile, int64_t last_tile) {
  using T = Compute<S>;
  using E = Operand<S>;
  const int64_t inputs = call.sizes.inputs, outputs = call.sizes.outputs;
  const int64_t i_stride = row_stride(inputs), o_stride = row_stride(outputs);
  SampleTile<S> modulated(call);
  ZeroedScratch<E> grad_squares(kTileRows * o_stride);
  Scratch<Unit<E>> steps(step_rows_size<E>(kTileRows, o_stride));
  T* square_partial = static_cast<T*>(call.square_partials) + worker * call.weight_partial();
  const bool through_squares = call.demodulation_sums, weight_wanted = through_squares && call.grad_weight;
  if (weight_wanted) fill_zero(square_partial, call.weight_partial());
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    const int64_t first_sample = tile * kTileRows, samples = call.sample_tiles().rows_in(tile);
    modulated.enter(tile);
    for (int64_t r = 0; through_squares && r < samples; ++r)
      load_grad_squares<S>(call, first_sample + r, grad_squares + r * o_stride);
    if (weight_wanted) {
      accumulate_transposed(samples, outputs, inputs, step_rows<E>(grad_squares, samples, o_stride, steps), o_stride,
                            modulated.squares(), i_stride, square_partial);
    }
    if (!call.grad_style) continue;
    // With depth 0 the product is zero and costs nothing; the epilogue runs all the same.
    multiply(samples, through_squares ? outputs : 0, inputs, static_cast<const E*>(grad_squares), o_stride,
             static_cast<const E*>(call.grad_square_panels),
             [&](int64_t first_row, int64_t n, int64_t column, const T* c) {
               style_block<S>(call, first_sample + first_row, n, column, c, modulated.modulation(first_row));
             });
  }
}

template <class S>
void reduce_weight(const ModfcCpuCall& call, int64_t workers, int64_t square_workers, int64_t first_output,
                   int64_t last_output) {
  using T = Compute<S>;
  const int64_t inputs = call.sizes.inputs;
  for (int64_t o = first_output; o < last_output; ++o)
    for (int64_t k = 0; k < inputs; k += kLanes<T>) {
      const int64_t in_partial = o * row_stride(inputs) + k, at = o * inputs + k;
      Vec<T> total = {}, squares = {};
      for (int64_t w = 0; w < workers; ++w)
        total += load(static_cast<const T*>(call.weight_partials) + w * call.weight_partial() + in_partial);
      for (int64_t w = 0; call.demodulation_sums && w < square_workers; ++w)
        squares += load(static_cast<const T*>(call.square_partials) + w * call.weight_partial() + in_partial);
      const Vec<T> weight = load_first(static_cast<const S*>(call.weight) + at, inputs - k);
      store_first(static_cast<S*>(call.grad_weight) + at, inputs - k, total + 2 * weight * squares);
    }
}

}  // namespace
}  // namespace cips3d::CIPS3D_SIMD_NS
