// modfc's CPU kernels: compiled once per SIMD level (simd.h) for each dtype.
//
// Computes  forward: y = clamp(gain * act(d * ((x * m) W^T) + noise + bias)); backward: the gradients of all five
// inputs,
//           recomputing (x * m) W^T where it is needed
// Axes      B batch, N points, I in, O out; tiles of kTileRows of the B * N rows, or of the B samples (cpu_tiles.h)
// Launch    any thread takes any tiles; in backward a worker adds to its own share of grad_weight
// Traffic   forward reads x and writes y once; backward reads x and grad_y and writes grad_x once. No weights per
// sample
//           exist: m scales a tile of x in L2, d the results in registers, and d's own sums are one product of squares
// Numerics  float32 (float64 for float64), rounded once at the end; sums over points tile by tile
// Limit     the matrix products' multiply-adds: 1 forward; 3 backward, 2 if nothing needs x W^T again
#include "common/cpu_gemm.h"
#include "common/simd_math.h"
#include "modfc/modfc_cpu.h"

namespace cips3d::CIPS3D_SIMD_NS {
namespace {

// What follows the linear map, for a vector of one row: u = d * linear + noise + bias, y = clamp(gain * act(u)).
template <class S>
class Output {
 public:
  using T = Compute<S>;

  explicit Output(const ModfcCpuCall& call)
      : call_(call),
        slope_(broadcast(T(modfc_slope(call.options)))),
        gain_(broadcast(T(call.options.gain))),
        limit_(broadcast(T(call.options.clamp))),
        is_sine_(call.options.activation == ModfcActivation::kSin),
        bias_(padded(call.sizes.outputs)) {
    fill_zero<T>(bias_, padded(call.sizes.outputs));
    if (call.bias) load_row(static_cast<const S*>(call.bias), call.sizes.outputs, static_cast<T*>(bias_));
  }

  CIPS3D_INLINE Vec<T> demodulation(int64_t sample, int64_t j) const {
    if (!call_.demodulation) return broadcast(T(1));
    return load(static_cast<const T*>(call_.demodulation) + sample * padded(call_.sizes.outputs) + j);
  }
  CIPS3D_INLINE Vec<T> before_activation(Vec<T> linear, Vec<T> d, int64_t sample, int64_t point, int64_t j) const {
    const Vec<T> u = linear * d + load(bias_ + j);
    return call_.noise ? u + noise(sample, point, j) : u;
  }
  CIPS3D_INLINE Vec<T> activate(Vec<T> u) const {
    const Vec<T> v = gain_ * (is_sine_ ? sin(u) : modfc_piecewise_linear(u, slope_));
    return call_.options.has_clamp ? modfc_clamp(v, limit_) : v;
  }
  CIPS3D_INLINE Vec<T> gradient(Vec<T> u, Vec<T> grad_y) const {
    Vec<T> value = u, slope = slope_;
    if (is_sine_) {
      sin_cos(u, value, slope);
    } else {
      value = modfc_piecewise_linear(u, slope_);
      slope = modfc_piecewise_linear_grad(u, slope_, broadcast(T(1)));
    }
    const Vec<T> grad_v = call_.options.has_clamp ? modfc_clamp_grad(grad_y, gain_ * value, limit_) : grad_y;
    return grad_v * gain_ * slope;
  }

 private:
  CIPS3D_INLINE Vec<T> noise(int64_t sample, int64_t point, int64_t j) const {
    const ModfcNoiseStrides& strides = call_.noise_strides;
    const S* p =
        static_cast<const S*>(call_.noise) + sample * strides.batch + point * strides.points + j * strides.outputs;
    const int64_t left = min(kLanes<T>, call_.sizes.outputs - j);
    if (strides.outputs == 1) return load_first(p, left);
    if (strides.outputs == 0) return broadcast(load_scalar(p));
    Vec<T> v = {};
    for (int64_t lane = 0; lane < left; ++lane) v[lane] = load_scalar(p + lane * strides.outputs);
    return v;
  }

  const ModfcCpuCall& call_;
  Vec<T> slope_, gain_, limit_;
  bool is_sine_;
  Scratch<T> bias_;
};

// m = scale * (style + style_offset) of one sample, padded with zeros.
template <class S>
void load_modulation(const ModfcCpuCall& call, int64_t sample, Compute<S>* m) {
  using T = Compute<S>;
  const T scale = T(call.options.scale), offset = T(call.options.style_offset);
  const int64_t inputs = call.sizes.inputs;
  const S* style = static_cast<const S*>(call.style) + sample * inputs;
  for (int64_t k = 0; k < inputs; k += kLanes<T>) {
    // Zeroes what lies past the end: a lane there would hold scale * offset.
    const Vec<T> v = scale * (load_first(style + k, inputs - k) + offset);
    store(m + k, Vec<T>{});
    store_first(m + k, inputs - k, v);
  }
}

// A tile's rows times their samples' modulations, padded with zeros; the modulations stay for the backward.
template <class S>
class ModulatedTile {
 public:
  using T = Compute<S>;

  explicit ModulatedTile(const ModfcCpuCall& call)
      : call_(call),
        rows_(call.tiles()),
        modulations_(call.tiles().samples_per_tile() * padded(call.sizes.inputs)),
        x_(kTileRows * row_stride(call.sizes.inputs)) {}

  void enter(int64_t tile) {
    const RowTiles tiles = call_.tiles();
    const int64_t inputs = call_.sizes.inputs;
    rows_.enter(tile);
    for (int64_t sample = tiles.first_sample(tile); sample <= tiles.last_sample(tile); ++sample)
      load_modulation<S>(call_, sample, modulations_ + (sample - rows_.first_sample()) * padded(inputs));
    const S* x = static_cast<const S*>(call_.x) + tile * kTileRows * inputs;
    for (int64_t r = 0; r < tiles.rows_in(tile); ++r) {
      const T* m = modulation(rows_.sample_of(r));
      for (int64_t k = 0; k < inputs; k += kLanes<T>)
        store(x_ + r * row_stride(inputs) + k, load_first(x + r * inputs + k, inputs - k) * load(m + k));
    }
  }

  const TileRows& rows() const { return rows_; }
  const T* modulation(int64_t sample) const {
    return modulations_ + (sample - rows_.first_sample()) * padded(call_.sizes.inputs);
  }
  const T* x() const { return x_; }

 private:
  const ModfcCpuCall& call_;
  TileRows rows_;
  Scratch<T> modulations_;
  ZeroedScratch<T> x_;
};

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

template <class S>
void forward(const ModfcCpuCall& call, int64_t first_tile, int64_t last_tile) {
  using T = Compute<S>;
  const int64_t inputs = call.sizes.inputs, outputs = call.sizes.outputs, points = call.sizes.points;
  const Output<S> output(call);
  ModulatedTile<S> input(call);
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    input.enter(tile);
    const int64_t tile_row = tile * kTileRows;
    S* y = static_cast<S*>(call.y) + tile_row * outputs;
    multiply(call.tiles().rows_in(tile), inputs, outputs, input.x(), row_stride(inputs),
             static_cast<const T*>(call.panels),
             [&](int64_t first_row, int64_t rows, int64_t first_column, const T* c) {
               for (int64_t r = 0; r < rows; ++r) {
                 const int64_t sample = input.rows().sample_of(first_row + r);
                 const int64_t point = tile_row + first_row + r - sample * points;
                 for (int v = 0; v < kPanel<T> && first_column + v < outputs; v += kLanes<T>) {
                   const int64_t j = first_column + v;
                   const Vec<T> u = output.before_activation(load(c + r * kPanel<T> + v),
                                                             output.demodulation(sample, j), sample, point, j);
                   store_first(y + (first_row + r) * outputs + j, outputs - j, output.activate(u));
                 }
               }
             });
  }
}

// grad_linear of one block of rows and columns into `z`, grad_noise, and the block's shares of the sums over points.
template <class S>
CIPS3D_INLINE void backward_outputs(const ModfcCpuCall& call, const Output<S>& output, const TileRows& tile,
                                    int64_t first_row, int64_t rows, int64_t first_column, const Compute<S>* c,
                                    Compute<S>* z) {
  using T = Compute<S>;
  const int64_t outputs = call.sizes.outputs, z_stride = row_stride(outputs);
  const int64_t tile_row = tile.tile() * kTileRows;
  for (int64_t r = first_row; r < first_row + rows;) {
    const int64_t sample = tile.sample_of(r), end = min(first_row + rows, tile.end_of(sample));
    T* sums = static_cast<T*>(call.output_sums) + call.tiles().segment(tile.tile(), sample) * 2 * padded(outputs);
    for (int v = 0; v < kPanel<T> && first_column + v < outputs; v += kLanes<T>) {
      const int64_t j = first_column + v;
      const Vec<T> d = output.demodulation(sample, j);
      Vec<T> sum_u = load(sums + j), sum_d = load(sums + padded(outputs) + j);
      for (int64_t row = r; row < end; ++row) {
        const int64_t at = (tile_row + row) * outputs + j;
        const Vec<T> linear = load(c + (row - first_row) * kPanel<T> + v);
        const Vec<T> u = output.before_activation(linear, d, sample, tile_row + row - sample * call.sizes.points, j);
        const Vec<T> grad_u = output.gradient(u, load_first(static_cast<const S*>(call.grad_y) + at, outputs - j));
        if (call.grad_noise) store_first(static_cast<S*>(call.grad_noise) + at, outputs - j, grad_u);
        sum_u += grad_u;
        sum_d += grad_u * linear;
        store(z + row * z_stride + j, grad_u * d);
      }
      store(sums + j, sum_u);
      store(sums + padded(outputs) + j, sum_d);
    }
    r = end;
  }
}

// From `c`, one block of the gradient of x * m: grad_x, and the block's share of m's gradient.
template <class S>
CIPS3D_INLINE void backward_inputs(const ModfcCpuCall& call, const ModulatedTile<S>& input, int64_t first_row,
                                   int64_t rows, int64_t first_column, const Compute<S>* c) {
  using T = Compute<S>;
  const int64_t inputs = call.sizes.inputs;
  const TileRows& tile = input.rows();
  for (int64_t r = first_row; r < first_row + rows;) {
    const int64_t sample = tile.sample_of(r), end = min(first_row + rows, tile.end_of(sample));
    T* sums = static_cast<T*>(call.style_sums) + call.tiles().segment(tile.tile(), sample) * padded(inputs);
    for (int v = 0; v < kPanel<T> && first_column + v < inputs; v += kLanes<T>) {
      const int64_t k = first_column + v;
      const Vec<T> m = load(input.modulation(sample) + k);
      Vec<T> sum = load(sums + k);
      for (int64_t row = r; row < end; ++row) {
        const int64_t at = (tile.tile() * kTileRows + row) * inputs + k;
        const Vec<T> grad = load(c + (row - first_row) * kPanel<T> + v);
        sum += grad * load_first(static_cast<const S*>(call.x) + at, inputs - k);
        if (call.grad_x) store_first(static_cast<S*>(call.grad_x) + at, inputs - k, grad * m);
      }
      store(sums + k, sum);
    }
    r = end;
  }
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
