// modfc's CPU kernels where channels come before points: forward and backward on tiles of up to kTileRows points of one
// sample. A weight per output is a row of the products, a point a column; nothing is transposed in memory.
//
// Computes  linear = W (x * m), grad of x * m = W^T grad_linear, grad_W += grad_linear (x * m)^T and what is around
//           them in modfc_cpu_kernels.h and modfc_cpu_backward.h
// Axes      x [B,I,N], y, noise, skip and what is kept [B,O,N]
// Launch, Numerics, Limit  as there; no rgb
// Traffic   as there; the points of a channel that a tile reads or writes are up to 6 lines of 64 bytes
#pragma once
#include "modfc/modfc_cpu_backward.h"

namespace cips3d::CIPS3D_SIMD_NS {
namespace {

// Working memory of tiles has one stride: kTileRows columns and slack, as row_stride() has it.
inline constexpr int64_t kTileStride = kTileRows + kRowSlack;
static_assert(kTileRows % kPadding == 0);

// The points of one tile.
struct PointTile {
  PointTile(const ModfcCpuCall& call, int64_t at) : tile(at), sample(call.tiles().first_sample(at)) {
    first = at * kTileRows - sample * call.tiles().points;
    count = min(kTileRows, call.sizes.points - first);
    segment = call.tiles().segment(at, sample);
  }

  int64_t tile, sample, first, count, segment;
};

// A channel's points lie far from the next channel's, often in another page, where the hardware does not read ahead:
// brings those of the channel kBlockRows later into L1, an epilogue's block ahead.
template <class A>
CIPS3D_INLINE void read_ahead(const A* row, int64_t points, int64_t count) {
  constexpr int64_t kLine = 64;
  const char* next = reinterpret_cast<const char*>(row + kBlockRows * points);
  for (int64_t at = 0; at < count * static_cast<int64_t>(sizeof(A)) + kLine; at += kLine) __builtin_prefetch(next + at);
}

// A tile's points times the sample's modulations as operands [I, kTileStride], padded with zeros.
template <class S>
class ModulatedPoints {
 public:
  using T = Compute<S>;
  using E = Operand<S>;

  explicit ModulatedPoints(const ModfcCpuCall& call)
      : call_(call),
        modulations_(padded(call.sizes.inputs)),
        x_(padded(call.sizes.inputs) * kTileStride),
        steps_(step_rows_size<E>(call.sizes.inputs, kTileStride)) {
    const int64_t inputs = call.sizes.inputs;
    for (int64_t i = inputs * kTileStride; i < padded(inputs) * kTileStride; ++i) x_[i] = E{};
  }

  void enter(const PointTile& tile) {
    const int64_t inputs = call_.sizes.inputs, points = call_.sizes.points;
    load_modulation<S>(call_, tile.sample, modulations_);
    const S* x = static_cast<const S*>(call_.x) + tile.sample * inputs * points + tile.first;
    for (int64_t k = 0; k < inputs; ++k) {
      const Vec<T> m = broadcast(modulations_[k]);
      read_ahead(x + k * points, points, tile.count);
      for (int64_t n = 0; n < tile.count; n += kLanes<T>)
        store(x_ + k * kTileStride + n, load_first(x + k * points + n, tile.count - n) * m);
    }
  }

  T modulation(int64_t k) const { return modulations_[k]; }
  const E* rows() const { return x_; }
  const Unit<E>* steps() { return step_rows<E>(x_, call_.sizes.inputs, kTileStride, steps_); }

 private:
  const ModfcCpuCall& call_;
  Scratch<T> modulations_;
  Scratch<E> x_;
  Scratch<Unit<E>> steps_;
};

// y of one block of outputs and points, and what is kept of it; each may be null.
template <class S>
CIPS3D_INLINE void forward_points(const ModfcCpuCall& call, const Output<S>& shared_output, const PointTile& tile,
                                  int64_t first_row, int64_t rows, int64_t first_column, const Compute<S>* c,
                                  Destination<S> y, Destination<Compute<S>> kept) {
  using T = Compute<S>;
  const Output<S> output = shared_output;
  const S* skip = static_cast<const S*>(call.skip);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t o = first_row + r, row = (tile.sample * output.outputs + o) * call.sizes.points + tile.first;
    const Vec<T> d = broadcast(output.demodulation_of(tile.sample, o)), bias = broadcast(output.bias_of(o));
    if (skip && first_column == 0) read_ahead(skip + row, call.sizes.points, tile.count);
    for (int v = 0; v < kPanel<T> && first_column + v < tile.count; v += kLanes<T>) {
      const int64_t n = first_column + v, at = row + n, left = tile.count - n;
      const Vec<T> linear = load(c + r * kPanel<T> + v);
      const Vec<T> u = linear * d + output.noise_of_points(tile.sample, tile.first + n, o, left) + bias;
      if (y.array) {
        const Vec<T> value = output.activate(u);
        y.write(at, left, skip ? value + load_first(skip + at, left) : value);
      }
      if (kept.array) kept.write(at, left, linear);
      if (call.branches) store_bytes<T>(call.branches + at, left, output.branch(u));
    }
  }
}

template <class S>
void forward_of_points(const ModfcCpuCall& call, int64_t first_tile, int64_t last_tile) {
  using T = Compute<S>;
  using E = Operand<S>;
  const int64_t inputs = call.sizes.inputs, outputs = call.sizes.outputs, points = call.sizes.points;
  const Destination<S> y(call.y, call.sizes.batch * outputs, points);
  const Destination<T> kept(call.linear, call.sizes.batch * outputs, points);
  const Output<S> output(call);
  const Broadcast<E> weight{as_units(static_cast<const E*>(call.panels)), row_stride(inputs) / kStep<E>, 1};
  ModulatedPoints<S> input(call);
  for (int64_t at = first_tile; at < last_tile; ++at) {
    const PointTile tile(call, at);
    input.enter(tile);
    multiply_rows<E>(outputs, inputs, tile.count, weight, input.steps(), kTileStride,
                     [&](int64_t first_row, int64_t rows, int64_t first_column, const T* c) {
                       forward_points<S>(call, output, tile, first_row, rows, first_column, c, y, kept);
                     });
  }
  y.finish();
  kept.finish();
}

// grad_linear of a tile into the rows of `z`, grad_noise and grad_skip, and the tile's sums over points.
template <class S>
void backward_of_outputs(const ModfcCpuCall& call, const Output<S>& shared_output, const PointTile& tile,
                         Destination<S> grad_skip, Operand<S>* z) {
  using T = Compute<S>;
  const Output<S> output = shared_output;
  const int64_t outputs = call.sizes.outputs, points = call.sizes.points;
  const S* grad_y = static_cast<const S*>(call.grad_y);
  S* grad_noise = static_cast<S*>(call.grad_noise);
  for (int64_t o = 0; o < outputs; ++o) {
    const int64_t row = (tile.sample * outputs + o) * points + tile.first;
    const Vec<T> d = broadcast(output.demodulation_of(tile.sample, o)), bias = broadcast(output.bias_of(o));
    Vec<T> bias_sum = {}, demodulation_sum = {};
    if (grad_y) read_ahead(grad_y + row, points, tile.count);
    if (call.branches) read_ahead(call.branches + row, points, tile.count);
    if (call.linear) read_ahead(static_cast<const T*>(call.linear) + row, points, tile.count);
    for (int64_t n = 0; n < tile.count; n += kLanes<T>) {
      const int64_t at = row + n, left = tile.count - n;
      const Vec<T> grad = grad_y ? load_first(grad_y + at, left) : Vec<T>{};
      const auto [linear, grad_u] = grad_of_argument<S>(call, output, at, left, d, grad, [&] {
        return output.noise_of_points(tile.sample, tile.first + n, o, left) + bias;
      });
      const Vec<T> grad_linear = grad_u * d;
      if (grad_skip.array) grad_skip.write(at, left, grad);
      if (grad_noise) store_first(grad_noise + at, left, grad_u);
      bias_sum += grad_u;
      demodulation_sum += grad_linear * linear;
      store(z + o * kTileStride + n, grad_linear);
    }
    if (call.bias_sums) static_cast<T*>(call.bias_sums)[tile.tile * padded(outputs) + o] = sum(bias_sum);
    if (call.demodulation_sums)
      static_cast<T*>(call.demodulation_sums)[tile.segment * padded(outputs) + o] = sum(demodulation_sum);
  }
}

// From `c`, one block of the gradient of x * m: grad_x, and the block's share of m's gradient.
template <class S>
CIPS3D_INLINE void backward_of_inputs(const ModfcCpuCall& call, const ModulatedPoints<S>& input, const PointTile& tile,
                                      int64_t first_row, int64_t rows, int64_t first_column, const Compute<S>* c,
                                      Destination<S> grad_x) {
  using T = Compute<S>;
  const int64_t inputs = call.sizes.inputs;
  const S* x = static_cast<const S*>(call.x);
  T* sums = static_cast<T*>(call.style_sums) + tile.segment * padded(inputs);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t k = first_row + r, row = (tile.sample * inputs + k) * call.sizes.points + tile.first;
    const Vec<T> m = broadcast(input.modulation(k));
    Vec<T> total = {};
    if (first_column == 0) read_ahead(x + row, call.sizes.points, tile.count);
    for (int v = 0; v < kPanel<T> && first_column + v < tile.count; v += kLanes<T>) {
      const int64_t at = row + first_column + v, left = tile.count - first_column - v;
      const Vec<T> grad = load(c + r * kPanel<T> + v);
      total += grad * load_first(x + at, left);
      if (grad_x.array) grad_x.write(at, left, grad * m);
    }
    sums[k] = first_column == 0 ? sum(total) : sums[k] + sum(total);
  }
}

template <class S>
void backward_of_points(const ModfcCpuCall& call, int64_t worker, int64_t first_tile, int64_t last_tile) {
  using T = Compute<S>;
  using E = Operand<S>;
  const int64_t inputs = call.sizes.inputs, outputs = call.sizes.outputs, points = call.sizes.points;
  const Destination<S> grad_x(call.grad_x, call.sizes.batch * inputs, points);
  const Destination<S> grad_skip(call.grad_skip, call.sizes.batch * outputs, points);
  const Output<S> output(call);
  const Broadcast<E> weight{static_cast<const Unit<E>*>(call.grad_panels), 1, row_stride(inputs)};
  ModulatedPoints<S> input(call);
  Scratch<E> z(padded(outputs, kBlockPadding) * kTileStride);
  Scratch<Unit<E>> z_steps(step_rows_size<E>(outputs, kTileStride));
  WeightGradient<S> weight_gradient(call, worker);
  for (int64_t at = first_tile; at < last_tile; ++at) {
    const PointTile tile(call, at);
    input.enter(tile);
    backward_of_outputs<S>(call, output, tile, grad_skip, z);
    weight_gradient.add_columns(at, tile.sample, tile.count, z, input.rows(), kTileStride, at + 1 == last_tile);
    if (!call.grad_panels) continue;
    multiply_rows<E>(inputs, outputs, tile.count, weight, step_rows<E>(z, outputs, kTileStride, z_steps), kTileStride,
                     [&](int64_t first_row, int64_t rows, int64_t first_column, const T* c) {
                       backward_of_inputs<S>(call, input, tile, first_row, rows, first_column, c, grad_x);
                     });
  }
  grad_x.finish();
  grad_skip.finish();
}

}  // namespace
}  // namespace cips3d::CIPS3D_SIMD_NS
