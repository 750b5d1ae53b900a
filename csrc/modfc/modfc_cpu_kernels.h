// modfc's CPU kernels: compiled once per SIMD level (simd.h) for each dtype.
//
// Computes  forward: y = clamp(gain * act(d * ((x * m) W^T) + noise + bias))
//           backward: the gradients of all five inputs, recomputing (x * m) W^T where it is needed
// Axes      B batch, N points, I in, O out; tiles of kTileRows of the B * N rows, or of the B samples (cpu_tiles.h)
// Launch    any thread takes any tiles; in backward a worker adds to its own share of grad_weight
// Traffic   forward reads x and writes y once; backward reads x and grad_y and writes grad_x once. There are no weights
//           per sample: m scales a tile of x in L2, d the results in registers, d's sums are one product of squares
// Numerics  float32 (float64 for float64), rounded once at the end; sums over points tile by tile
// Limit     the matrix products' multiply-adds: 1 forward; 3 backward, 2 if nothing needs x W^T again
#include "modfc/modfc_cpu_block.h"

namespace cips3d::CIPS3D_SIMD_NS {
namespace {

template <class S>
void pack_weight(const ModfcCpuCall& call) {
  using T = Compute<S>;
  const S* weight = static_cast<const S*>(call.weight);
  if (call.panels) pack_transposed(weight, call.sizes.outputs, call.sizes.inputs, static_cast<T*>(call.panels));
  if (call.grad_panels) pack(weight, call.sizes.outputs, call.sizes.inputs, static_cast<T*>(call.grad_panels));
}

// The squared modulations of a tile of samples, as rows for a product.
template <class S>
void load_squares(const ModfcCpuCall& call, int64_t sample_tile, Compute<S>* to) {
  using T = Compute<S>;
  const int64_t inputs = call.sizes.inputs;
  for (int64_t r = 0; r < call.sample_tiles().rows_in(sample_tile); ++r) {
    T* row = to + r * row_stride(inputs);
    load_modulation<S>(call, sample_tile * kTileRows + r, row);
    for (int64_t k = 0; k < inputs; k += kLanes<T>) store(row + k, load(row + k) * load(row + k));
  }
}

// d = rsqrt(sum_i (W m)^2 + eps), for all outputs of some samples.
template <class S>
void demodulate(const ModfcCpuCall& call, int64_t first_tile, int64_t last_tile) {
  using T = Compute<S>;
  const int64_t inputs = call.sizes.inputs, outputs = call.sizes.outputs;
  const T eps = T(call.options.eps);
  ZeroedScratch<T> squares(kTileRows * row_stride(inputs));
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    load_squares<S>(call, tile, squares);
    T* d = static_cast<T*>(call.demodulation) + tile * kTileRows * padded(outputs);
    multiply<true>(call.sample_tiles().rows_in(tile), inputs, outputs, static_cast<const T*>(squares),
                   row_stride(inputs), static_cast<const T*>(call.panels),
                   [&](int64_t first_row, int64_t rows, int64_t first_column, const T* c) {
                     for (int64_t r = 0; r < rows; ++r)
                       for (int v = 0; v < kPanel<T> && first_column + v < outputs; v += kLanes<T>)
                         store(d + (first_row + r) * padded(outputs) + first_column + v,
                               T(1) / sqrt(load(c + r * kPanel<T> + v) + eps));
                   });
  }
}

// y of one block of rows and columns.
template <class S>
CIPS3D_INLINE void forward_block(const ModfcCpuCall& call, const Output<S>& shared_output, const TileRows& tile,
                                 int64_t first_row, int64_t rows, int64_t first_column, const Compute<S>* c) {
  using T = Compute<S>;
  const Output<S> output = shared_output;
  const int64_t outputs = call.sizes.outputs, points = call.sizes.points, tile_row = tile.tile() * kTileRows;
  S* y = static_cast<S*>(call.y);
  tile.for_each_sample(first_row, rows, [&](int64_t sample, int64_t begin, int64_t end) {
    for (int v = 0; v < kPanel<T> && first_column + v < outputs; v += kLanes<T>) {
      const int64_t j = first_column + v;
      const Vec<T> d = output.demodulation_at(sample, j), bias = output.bias_at(j);
      for (int64_t row = begin; row < end; ++row) {
        const Vec<T> linear = load(c + (row - first_row) * kPanel<T> + v);
        const Vec<T> u = linear * d + output.noise_at(sample, tile_row + row - sample * points, j) + bias;
        store_first(y + (tile_row + row) * outputs + j, outputs - j, output.activate(u));
      }
    }
  });
}

template <class S>
void forward(const ModfcCpuCall& call, int64_t first_tile, int64_t last_tile) {
  using T = Compute<S>;
  const int64_t inputs = call.sizes.inputs;
  const Output<S> output(call);
  ModulatedTile<S> input(call);
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    input.enter(tile);
    multiply(call.tiles().rows_in(tile), inputs, call.sizes.outputs, input.x(), row_stride(inputs),
             static_cast<const T*>(call.panels),
             [&](int64_t first_row, int64_t rows, int64_t first_column, const T* c) {
               forward_block<S>(call, output, input.rows(), first_row, rows, first_column, c);
             });
  }
}

// grad_linear of one block of rows and columns into `z`, grad_noise, and the block's shares of the sums over points.
template <class S>
CIPS3D_INLINE void backward_outputs(const ModfcCpuCall& call, const Output<S>& shared_output, const TileRows& tile,
                                    int64_t first_row, int64_t rows, int64_t first_column, const Compute<S>* c,
                                    Compute<S>* z) {
  using T = Compute<S>;
  const Output<S> output = shared_output;
  const int64_t outputs = call.sizes.outputs, points = call.sizes.points, z_stride = row_stride(outputs);
  const int64_t tile_row = tile.tile() * kTileRows;
  const S* grad_y = static_cast<const S*>(call.grad_y);
  S* grad_noise = static_cast<S*>(call.grad_noise);
  tile.for_each_sample(first_row, rows, [&](int64_t sample, int64_t begin, int64_t end) {
    T* sums = static_cast<T*>(call.output_sums) + call.tiles().segment(tile.tile(), sample) * 2 * padded(outputs);
    for (int v = 0; v < kPanel<T> && first_column + v < outputs; v += kLanes<T>) {
      const int64_t j = first_column + v;
      const Vec<T> d = output.demodulation_at(sample, j), bias = output.bias_at(j);
      Vec<T> sum_u = load(sums + j), sum_d = load(sums + padded(outputs) + j);
      for (int64_t row = begin; row < end; ++row) {
        const int64_t at = (tile_row + row) * outputs + j;
        const Vec<T> linear = load(c + (row - first_row) * kPanel<T> + v);
        const Vec<T> u = linear * d + output.noise_at(sample, tile_row + row - sample * points, j) + bias;
        const Vec<T> grad_u = output.gradient(u, load_first(grad_y + at, outputs - j));
        if (grad_noise) store_first(grad_noise + at, outputs - j, grad_u);
        sum_u += grad_u;
        sum_d += grad_u * linear;
        store(z + row * z_stride + j, grad_u * d);
      }
      store(sums + j, sum_u);
      store(sums + padded(outputs) + j, sum_d);
    }
  });
}

// From `c`, one block of the gradient of x * m: grad_x, and the block's share of m's gradient.
template <class S>
CIPS3D_INLINE void backward_inputs(const ModfcCpuCall& call, const ModulatedTile<S>& input, int64_t first_row,
                                   int64_t rows, int64_t first_column, const Compute<S>* c) {
  using T = Compute<S>;
  const int64_t inputs = call.sizes.inputs;
  const TileRows& tile = input.rows();
  const S* x = static_cast<const S*>(call.x);
  S* grad_x = static_cast<S*>(call.grad_x);
  tile.for_each_sample(first_row, rows, [&](int64_t sample, int64_t begin, int64_t end) {
    T* sums = static_cast<T*>(call.style_sums) + call.tiles().segment(tile.tile(), sample) * padded(inputs);
    for (int v = 0; v < kPanel<T> && first_column + v < inputs; v += kLanes<T>) {
      const int64_t k = first_column + v;
      const Vec<T> m = load(input.modulation(sample) + k);
      Vec<T> sum = load(sums + k);
      for (int64_t row = begin; row < end; ++row) {
        const int64_t at = (tile.tile() * kTileRows + row) * inputs + k;
        const Vec<T> grad = load(c + (row - first_row) * kPanel<T> + v);
        sum += grad * load_first(x + at, inputs - k);
        if (grad_x) store_first(grad_x + at, inputs - k, grad * m);
      }
      store(sums + k, sum);
    }
  });
}

template <class S>
void backward(const ModfcCpuCall& call, int64_t worker, int64_t first_tile, int64_t last_tile) {
  using T = Compute<S>;
  const int64_t inputs = call.sizes.inputs, outputs = call.sizes.outputs;
  const RowTiles tiles = call.tiles();
  const Output<S> output(call);
  ModulatedTile<S> input(call);
  ZeroedScratch<T> z(kTileRows * row_stride(outputs));
  T* weight_partial = static_cast<T*>(call.weight_partials) + worker * call.weight_partial();
  if (call.grad_weight) fill_zero(weight_partial, call.weight_partial());
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    const int64_t rows = tiles.rows_in(tile);
    const int64_t first_segment = tiles.segment(tile, tiles.first_sample(tile));
    const int64_t segments = tiles.last_sample(tile) - tiles.first_sample(tile) + 1;
    fill_zero(static_cast<T*>(call.output_sums) + first_segment * 2 * padded(outputs), segments * 2 * padded(outputs));
    input.enter(tile);
    // With depth 0 the product is zero and costs nothing; the epilogue runs all the same.
    multiply(rows, call.recomputes_linear() ? inputs : 0, outputs, input.x(), row_stride(inputs),
             static_cast<const T*>(call.panels), [&](int64_t first_row, int64_t n, int64_t column, const T* c) {
               backward_outputs<S>(call, output, input.rows(), first_row, n, column, c, z);
             });
    if (call.grad_weight)
      accumulate_transposed(rows, outputs, inputs, static_cast<const T*>(z), row_stride(outputs), input.x(),
                            row_stride(inputs), weight_partial);
    if (!call.grad_panels) continue;
    fill_zero(static_cast<T*>(call.style_sums) + first_segment * padded(inputs), segments * padded(inputs));
    multiply(rows, outputs, inputs, static_cast<const T*>(z), row_stride(outputs),
             static_cast<const T*>(call.grad_panels), [&](int64_t first_row, int64_t n, int64_t column, const T* c) {
               backward_inputs<S>(call, input, first_row, n, column, c);
             });
  }
}

// grad_bias of some columns, and the gradients of their square sums, from the segments' sums.
template <class S>
void reduce_outputs(const ModfcCpuCall& call, int64_t first_output, int64_t last_output) {
  using T = Compute<S>;
  const int64_t outputs = call.sizes.outputs;
  const RowTiles tiles = call.tiles();
  for (int64_t j = first_output; j < last_output; j += kLanes<T>) {
    Vec<T> grad_bias = {};
    for (int64_t sample = 0; sample < tiles.batch; ++sample) {
      Vec<T> sum_u = {}, sum_d = {};
      for (int64_t s = tiles.first_segment(sample); s <= tiles.last_segment(sample); ++s) {
        const T* sums = static_cast<const T*>(call.output_sums) + s * 2 * padded(outputs) + j;
        sum_u += load(sums);
        sum_d += load(sums + padded(outputs));
      }
      grad_bias += sum_u;
      if (!call.demodulation) continue;
      const int64_t at = sample * padded(outputs) + j;
      store(static_cast<T*>(call.grad_square) + at,
            modfc_grad_square_sum(sum_d, load(static_cast<const T*>(call.demodulation) + at)));
    }
    if (call.grad_bias) store_first(static_cast<S*>(call.grad_bias) + j, outputs - j, grad_bias);
  }
}

// grad_style of a tile's samples from one block of grad_square W^2 (zero without demodulation) and the sums over
// points: m's gradient is their sum with 2 m (grad_square W^2).
template <class S>
CIPS3D_INLINE void style_block(const ModfcCpuCall& call, int64_t first_sample, int64_t samples, int64_t first_column,
                               const Compute<S>* c, Compute<S>* m) {
  using T = Compute<S>;
  const int64_t inputs = call.sizes.inputs;
  const RowTiles tiles = call.tiles();
  for (int64_t i = 0; i < samples; ++i) {
    const int64_t sample = first_sample + i;
    load_modulation<S>(call, sample, m);
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
  const int64_t inputs = call.sizes.inputs, outputs = call.sizes.outputs;
  ZeroedScratch<T> squares(kTileRows * row_stride(inputs)), grad_square(kTileRows * row_stride(outputs));
  Scratch<T> m(padded(inputs));
  T* square_partial = static_cast<T*>(call.square_partials) + worker * call.weight_partial();
  const bool through_squares = call.demodulation, weight_wanted = through_squares && call.grad_weight;
  if (weight_wanted) fill_zero(square_partial, call.weight_partial());
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    const int64_t first_sample = tile * kTileRows, samples = call.sample_tiles().rows_in(tile);
    for (int64_t r = 0; through_squares && r < samples; ++r)
      load_row(static_cast<const T*>(call.grad_square) + (first_sample + r) * padded(outputs), outputs,
               grad_square + r * row_stride(outputs));
    if (weight_wanted) {
      load_squares<S>(call, tile, squares);
      accumulate_transposed(samples, outputs, inputs, static_cast<const T*>(grad_square), row_stride(outputs),
                            static_cast<const T*>(squares), row_stride(inputs), square_partial);
    }
    if (!call.grad_style) continue;
    multiply<true>(samples, through_squares ? outputs : 0, inputs, static_cast<const T*>(grad_square),
                   row_stride(outputs), static_cast<const T*>(call.grad_panels),
                   [&](int64_t first_row, int64_t n, int64_t column, const T* c) {
                     style_block<S>(call, first_sample + first_row, n, column, c, m);
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
      for (int64_t w = 0; call.demodulation && w < square_workers; ++w)
        squares += load(static_cast<const T*>(call.square_partials) + w * call.weight_partial() + in_partial);
      const Vec<T> weight = load_first(static_cast<const S*>(call.weight) + at, inputs - k);
      store_first(static_cast<S*>(call.grad_weight) + at, inputs - k, total + 2 * weight * squares);
    }
}

template <class S>
constexpr ModfcCpuKernels kernels_of() {
  return {pack_weight<S>,    demodulate<S>,     forward<S>,      backward<S>,
          reduce_outputs<S>, backward_style<S>, reduce_weight<S>};
}
constexpr ModfcCpuKernels kKernels[kCpuDtypes] = {kernels_of<double>(), kernels_of<float>(), kernels_of<bfloat16>(),
                                                  kernels_of<float16>()};

}  // namespace
}  // namespace cips3d::CIPS3D_SIMD_NS

namespace cips3d {
const ModfcCpuKernels* CIPS3D_LEVEL_NAME(modfc_cpu_kernels)() { return CIPS3D_SIMD_NS::kKernels; }
}  // namespace cips3d
