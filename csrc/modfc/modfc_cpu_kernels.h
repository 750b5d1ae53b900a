// modfc's CPU kernels: compiled once per SIMD level (simd.h) for each dtype. This file: forward and the table; the
// backward is in modfc_cpu_backward.h, both where channels come first in modfc_cpu_columns.h.
//
// Computes  y = clamp(gain * act(d * ((x * m) W^T) + noise + bias)) + skip, rgb = y to_rgb^T, and what backward needs
// Axes      B batch, N points, I in, O out, K colours; tiles of kTileRows of the B * N rows, or of the B samples
//           (cpu_tiles.h)
// Launch    any thread takes any tiles
// Traffic   reads x and skip and writes y once. There are no weights per sample: m scales a tile of x in L2, d the
//           results in registers, d's sums are one product of squares
// Numerics  float32 (float64 for float64), rounded once at the end; bfloat16 with dot products: x * m, m^2 and W^2 are
//           rounded too
// Limit     the product's multiply-adds
#include "common/cpu_read_ahead.h"
#include "modfc/modfc_cpu_columns.h"

namespace cips3d::CIPS3D_SIMD_NS {
namespace {

template <class S>
void pack_weight(const ModfcCpuCall& call) {
  using E = Operand<S>;
  const int64_t inputs = call.sizes.inputs, outputs = call.sizes.outputs;
  const S* weight = static_cast<const S*>(call.weight);
  E* squares = static_cast<E*>(call.squares);
  if (squares)
    for (int64_t k = 0; k < outputs * inputs; k += kLanes<Compute<S>>) {
      const Vec<Compute<S>> w = load_first(weight + k, outputs * inputs - k);
      store_first(squares + k, outputs * inputs - k, w * w);
    }
  if (call.channels_first) {
    const int64_t stride = row_stride(inputs);
    for (int64_t o = 0; call.panels && o < outputs; ++o)
      load_row(weight + o * inputs, inputs, static_cast<E*>(call.panels) + o * stride);
    if (call.grad_panels) pack_rows<E>(weight, outputs, inputs, stride, static_cast<Unit<E>*>(call.grad_panels));
  } else {
    if (call.panels) pack_transposed(weight, outputs, inputs, static_cast<E*>(call.panels));
    if (call.grad_panels) pack(weight, outputs, inputs, static_cast<E*>(call.grad_panels));
  }
  if (call.square_panels) pack_transposed(squares, outputs, inputs, static_cast<E*>(call.square_panels));
  if (call.grad_square_panels) pack(squares, outputs, inputs, static_cast<E*>(call.grad_square_panels));
}

// d = rsqrt(sum_i (W m)^2 + eps), for all outputs of some samples.
template <class S>
void demodulate(const ModfcCpuCall& call, int64_t first_tile, int64_t last_tile) {
  using T = Compute<S>;
  using E = Operand<S>;
  const int64_t inputs = call.sizes.inputs, outputs = call.sizes.outputs;
  const T eps = T(call.options.eps);
  SampleTile<S> samples(call);
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    samples.enter(tile);
    T* d = static_cast<T*>(call.demodulation) + tile * kTileRows * outputs;
    multiply(call.sample_tiles().rows_in(tile), inputs, outputs, samples.squares(), row_stride(inputs),
             static_cast<const E*>(call.square_panels),
             [&](int64_t first_row, int64_t rows, int64_t first_column, const T* c) {
               for (int64_t r = 0; r < rows; ++r)
                 for (int64_t j = first_column; j < min(outputs, first_column + kPanel<T>); j += kLanes<T>)
                   store_first(d + (first_row + r) * outputs + j, outputs - j,
                               T(1) / sqrt(load(c + r * kPanel<T> + j - first_column) + eps));
             });
  }
}

// y of one block of rows and columns, and what is kept of it; each may be null. kMore: there is a skip or rgb.
template <class S, bool kMore>
CIPS3D_INLINE void forward_block(const ModfcCpuCall& call, const Output<S>& shared_output, const TileRows& tile,
                                 int64_t first_row, int64_t rows, int64_t first_column, const Compute<S>* c,
                                 Destination<S> y, RgbTile<S>& rgb, Destination<Compute<S>> kept) {
  using T = Compute<S>;
  const Output<S> output = shared_output;
  const S* skip = static_cast<const S*>(call.skip);
  const int64_t outputs = call.sizes.outputs, points = call.sizes.points, tile_row = tile.tile() * kTileRows;
  tile.for_each_sample(first_row, rows, [&](int64_t sample, int64_t begin, int64_t end) {
    for (int v = 0; v < kPanel<T> && first_column + v < outputs; v += kLanes<T>) {
      const int64_t j = first_column + v;
      const Vec<T> d = output.demodulation_at(sample, j), bias = output.bias_at(j);
      Colours<Vec<T>> to_rgb;
      if constexpr (kMore) to_rgb = to_rgb_at<S>(call, j);
      for (int64_t row = begin; row < end; ++row) {
        const int64_t at = (tile_row + row) * outputs + j;
        const Vec<T> linear = load(c + (row - first_row) * kPanel<T> + v);
        const Vec<T> u = linear * d + output.noise_at(sample, tile_row + row - sample * points, j) + bias;
        if (y.array) {
          Vec<T> value = output.activate(u);
          if constexpr (kMore) {
            if (skip) value += load_first(skip + at, outputs - j);
            rgb.add(row, value, to_rgb);
          }
          y.write(at, outputs - j, value);
        }
        if (kept.array) kept.write(at, outputs - j, linear);
        if (call.branches) store_bytes<T>(call.branches + at, outputs - j, output.branch(u));
      }
    }
  });
}

// What the forward of a tile reads.
template <class S>
void read_ahead(const ModfcCpuCall& call, int64_t tile, ReadAhead& next) {
  const RowTiles tiles = call.tiles();
  const int64_t rows = tiles.rows_in(tile), samples = tiles.last_sample(tile) - tiles.first_sample(tile) + 1;
  const int64_t inputs = call.sizes.inputs, outputs = call.sizes.outputs;
  next.add(static_cast<const S*>(call.x), tile * kTileRows * inputs, rows * inputs);
  next.add(static_cast<const S*>(call.skip), tile * kTileRows * outputs, rows * outputs);
  next.add(static_cast<const Compute<S>*>(call.demodulation), tiles.first_sample(tile) * outputs, samples * outputs);
}

template <class S, bool kMore>
void forward_tiles(const ModfcCpuCall& call, int64_t first_tile, int64_t last_tile) {
  using T = Compute<S>;
  const int64_t inputs = call.sizes.inputs, outputs = call.sizes.outputs;
  const Destination<S> y(call.y, call.tiles().rows(), outputs);
  const Destination<T> kept(call.linear, call.tiles().rows(), outputs);
  const Output<S> output(call);
  ModulatedTile<S> input(call);
  RgbTile<S> rgb(call);
  ReadAhead next;
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    const int64_t rows_in_tile = call.tiles().rows_in(tile);
    input.enter(tile);
    rgb.start();
    next.start(blocks_of<Operand<S>>(rows_in_tile, outputs));
    if (tile + 1 < last_tile) read_ahead<S>(call, tile + 1, next);
    multiply(rows_in_tile, inputs, outputs, input.x(), row_stride(inputs), static_cast<const Operand<S>*>(call.panels),
             [&](int64_t first_row, int64_t rows, int64_t first_column, const T* c) {
               next.step();
               forward_block<S, kMore>(call, output, input.rows(), first_row, rows, first_column, c, y, rgb, kept);
             });
    rgb.finish(tile, rows_in_tile);
  }
  y.finish();
  kept.finish();
}

template <class S>
void forward(const ModfcCpuCall& call, int64_t first_tile, int64_t last_tile) {
  if (call.channels_first) {
    forward_of_points<S>(call, first_tile, last_tile);
  } else if (call.skip || call.rgb) {
    forward_tiles<S, true>(call, first_tile, last_tile);
  } else {
    forward_tiles<S, false>(call, first_tile, last_tile);
  }
}

template <class S>
void backward(const ModfcCpuCall& call, int64_t worker, int64_t first_tile, int64_t last_tile) {
  if (call.channels_first) {
    backward_of_points<S>(call, worker, first_tile, last_tile);
  } else {
    backward_tiles<S>(call, worker, first_tile, last_tile);
  }
}

template <class S>
constexpr ModfcCpuKernels kernels_of() {
  return {pack_weight<S>, demodulate<S>, forward<S>, backward<S>, reduce_tiles<S>, backward_style<S>, reduce_weight<S>};
}
constexpr ModfcCpuKernels kKernels[kCpuDtypes] = {kernels_of<double>(), kernels_of<float>(), kernels_of<bfloat16>(),
                                                  kernels_of<float16>()};

}  // namespace
}  // namespace cips3d::CIPS3D_SIMD_NS

namespace cips3d {
const ModfcCpuKernels* CIPS3D_LEVEL_NAME(modfc_cpu_kernels)() { return CIPS3D_SIMD_NS::kKernels; }
}  // namespace cips3d
