// film_sine's second derivatives on the CPU, in one pass over the rows.
//
// Computes  the gradients of sum grad_y * dy by grad_y and all inputs, where dy is y's derivative in a direction of x,
//           gamma and beta (film_sine_math.h): by that the gradient of a squared gradient goes on
// Axes      as in film_sine_cpu_kernels.h
// Launch    as its backward: a worker adds to its own share of grad_weight
// Traffic   reads x, its direction, grad_y and linear, and writes grad_x and grad_grad_y once
// Numerics  as its backward
// Limit     the multiply-adds of four products: dlinear, grad_x and both terms of grad_weight
#pragma once
#include "film_sine/film_sine_cpu_tile.h"

namespace cips3d::CIPS3D_SIMD_NS {
namespace {

// linear of a tile's rows: what forward kept, or working memory.
template <class T>
struct LinearRows {
  const T* rows;
  int64_t stride;
};

// x W^T + bias of a tile again.
template <class S>
LinearRows<Compute<S>> linear_again(const FilmSineCpuCall& call, const FilmTile<S>& film, int64_t rows,
                                    const Operand<S>* x, Compute<S>* to) {
  using T = Compute<S>;
  const int64_t inputs = call.sizes.inputs, stride = row_stride(call.sizes.outputs);
  multiply(rows, inputs, call.sizes.outputs, x, row_stride(inputs), static_cast<const Operand<S>*>(call.panels),
           [&](int64_t first_row, int64_t n, int64_t first_column, const T* c) {
             for (int64_t r = 0; r < n; ++r)
               for (int v = 0; v < kPanel<T> && first_column + v < call.sizes.outputs; v += kLanes<T>)
                 store(to + (first_row + r) * stride + first_column + v,
                       load(c + r * kPanel<T> + v) + load(film.bias() + first_column + v));
           });
  return {to, stride};
}

// Of rows [begin, end) of one sample and a vector of columns from j on, with their dlinear(row): grad_grad_y, the rows
// of grad_linear and of grad_dlinear, and the shares of the segment's sums.
template <class S, class Product>
CIPS3D_INLINE void second_columns(const FilmSineCpuCall& call, const FilmTile<S>& film, const FilmTile<S>& direction,
                                  int64_t sample, int64_t begin, int64_t end, int64_t j,
                                  const LinearRows<Compute<S>>& linear, const Product& dlinear,
                                  Destination<S> grad_grad_y, Operand<S>* grad_linear, Operand<S>* grad_dlinear) {
  using T = Compute<S>;
  const int64_t outputs = call.sizes.outputs, left = outputs - j, tile = film.rows().tile();
  const int64_t width = padded(outputs), tile_row = tile * kTileRows, z_stride = row_stride(outputs);
  const S* grad_y = static_cast<const S*>(call.grad_y);
  T* sums = static_cast<T*>(call.segment_sums) + call.tiles().segment(tile, sample) * kFilmSecondSums * width + j;
  const bool starts = film.rows().starts_segment(begin);
  const Vec<T> g = load(film.g(sample) + j), h = load(film.h(sample) + j);
  const Vec<T> dg = load(direction.g(sample) + j), dh = load(direction.h(sample) + j);
  Vec<T> sum_h = starts ? Vec<T>{} : load(sums), sum_g = starts ? Vec<T>{} : load(sums + width);
  Vec<T> sum_linear = starts ? Vec<T>{} : load(sums + 2 * width);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t at = (tile_row + row) * outputs + j;
    const Vec<T> l = load_first(linear.rows + row * linear.stride + j, left), dl = dlinear(row);
    const Vec<T> grad = load_first(grad_y + at, left), dphase = g * dl + dg * l + dh;
    Vec<T> sine, cosine;
    sin_cos(film_phase(l, g, h), sine, cosine);
    if (grad_grad_y.array) grad_grad_y.write(at, left, cosine * dphase);
    const Vec<T> grad_dphase = grad * cosine, grad_phase = -(grad * dphase) * sine;
    const Vec<T> z = grad_phase * g + grad_dphase * dg;
    sum_h += grad_phase;
    sum_g += grad_phase * l + grad_dphase * dl;
    sum_linear += z;
    store(grad_linear + row * z_stride + j, z);
    store(grad_dlinear + row * z_stride + j, grad_dphase * g);
  }
  store(sums, sum_h);
  store(sums + width, sum_g);
  store(sums + 2 * width, sum_linear);
}

template <class S>
void second(const FilmSineCpuCall& call, int64_t worker, int64_t first_tile, int64_t last_tile) {
  using T = Compute<S>;
  using E = Operand<S>;
  const int64_t inputs = call.sizes.inputs, outputs = call.sizes.outputs;
  const int64_t x_stride = row_stride(inputs), z_stride = row_stride(outputs);
  const Destination<S> grad_x(call.grad_x, call.tiles().rows(), inputs);
  const Destination<S> grad_grad_y(call.grad_grad_y, call.tiles().rows(), outputs);
  FilmTile<S> film(call, film_of(call)), direction(call, direction_of(call));
  ZeroedScratch<E> x(kTileRows * x_stride), dx(kTileRows * x_stride);
  ZeroedScratch<E> grad_linear(kTileRows * z_stride), grad_dlinear(kTileRows * z_stride);
  Scratch<T> again(call.linear ? 0 : kTileRows * z_stride);
  Scratch<Unit<E>> steps(step_rows_size<E>(kTileRows, z_stride));
  T* weight_partial = static_cast<T*>(call.weight_partials) + worker * call.weight_partial();
  if (call.grad_weight) fill_zero(weight_partial, call.weight_partial());
  const auto add_to_weight = [&](int64_t rows, const E* z, const E* factor) {
    accumulate_transposed(rows, outputs, inputs, step_rows<E>(z, rows, z_stride, steps), z_stride, factor, x_stride,
                          weight_partial);
  };
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    const int64_t rows = call.tiles().rows_in(tile), first_row = tile * kTileRows;
    film.enter(tile);
    direction.enter(tile);
    load_tile<S>(call, call.x, tile, x);
    if (call.direction_x) load_tile<S>(call, call.direction_x, tile, dx);
    const LinearRows<T> linear = call.linear
                                     ? LinearRows<T>{static_cast<const T*>(call.linear) + first_row * outputs, outputs}
                                     : linear_again<S>(call, film, rows, x, again);
    // With depth 0 the product is zero and costs nothing; the epilogue runs all the same.
    multiply(rows, call.direction_x ? inputs : 0, outputs, static_cast<const E*>(dx), x_stride,
             static_cast<const E*>(call.panels),
             [&](int64_t block_row, int64_t block_rows, int64_t first_column, const T* c) {
               film.rows().for_each_sample(block_row, block_rows, [&](int64_t sample, int64_t begin, int64_t end) {
                 for (int v = 0; v < kPanel<T> && first_column + v < outputs; v += kLanes<T>) {
                   const auto dlinear = [&](int64_t row) { return load(c + (row - block_row) * kPanel<T> + v); };
                   second_columns<S>(call, film, direction, sample, begin, end, first_column + v, linear, dlinear,
                                     grad_grad_y, grad_linear, grad_dlinear);
                 }
               });
             });
    if (call.grad_weight) add_to_weight(rows, grad_linear, x);
    if (call.grad_weight && call.direction_x) add_to_weight(rows, grad_dlinear, dx);
    if (!grad_x.array) continue;
    multiply(rows, outputs, inputs, static_cast<const E*>(grad_linear), z_stride,
             static_cast<const E*>(call.grad_panels),
             [&](int64_t block_row, int64_t block_rows, int64_t column, const T* c) {
               store_result_block<S>(c, first_row + block_row, block_rows, column, inputs, grad_x);
             });
  }
  grad_x.finish();
  grad_grad_y.finish();
}

// grad_gamma, grad_beta and grad_bias of some columns, from the segments' sums.
template <class S>
void reduce_second(const FilmSineCpuCall& call, int64_t first_output, int64_t last_output) {
  using T = Compute<S>;
  const int64_t outputs = call.sizes.outputs, width = padded(outputs);
  const RowTiles tiles = call.tiles();
  const T gamma_scale = T(call.options.gamma_scale), beta_scale = T(call.options.beta_scale);
  for (int64_t j = first_output; j < last_output; j += kLanes<T>) {
    const int64_t left = outputs - j;
    Vec<T> grad_bias = {};
    for (int64_t sample = 0; sample < tiles.batch; ++sample) {
      const int64_t at = sample * outputs + j;
      Vec<T> sum_h = {}, sum_g = {};
      for (int64_t s = tiles.first_segment(sample); s <= tiles.last_segment(sample); ++s) {
        const T* sums = static_cast<const T*>(call.segment_sums) + s * kFilmSecondSums * width + j;
        sum_h += load(sums);
        sum_g += load(sums + width);
        grad_bias += load(sums + 2 * width);
      }
      if (call.grad_beta) store_first(static_cast<S*>(call.grad_beta) + at, left, beta_scale * sum_h);
      if (call.grad_gamma) store_first(static_cast<S*>(call.grad_gamma) + at, left, gamma_scale * sum_g);
    }
    if (call.grad_bias) store_first(static_cast<S*>(call.grad_bias) + j, left, grad_bias);
  }
}

}  // namespace
}  // namespace cips3d::CIPS3D_SIMD_NS
