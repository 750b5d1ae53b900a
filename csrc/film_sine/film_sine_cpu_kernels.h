// film_sine's CPU kernels: compiled once per SIMD level (simd.h) for each dtype.
//
// Computes  forward: y = sin(g * linear + h) with linear = x W^T + bias; backward: the gradients of all five inputs,
//           from the `linear` that forward kept or from a product of its own
// Axes      B batch, N points, I in, O out; tiles of kTileRows of the B * N rows (cpu_tiles.h)
// Launch    any thread takes any tiles; in backward a worker adds to its own share of grad_weight
// Traffic   forward reads x and writes y (and linear) once; backward reads x, grad_y (and linear) and writes grad_x
//           once; the next tile is read ahead
// Numerics  float32 (float64 for float64), rounded once at the end; sums over points tile by tile; bfloat16 with dot
//           products: forward's operands are bfloat16 as they come, of the backward's grad_linear is rounded too
// Limit     the matrix products' multiply-adds for I >= 64 or so, the sine below
#include "common/cpu_read_ahead.h"
#include "film_sine/film_sine_cpu_second.h"

namespace cips3d::CIPS3D_SIMD_NS {
namespace {

template <class S>
void pack_weight(const FilmSineCpuCall& call) {
  using E = Operand<S>;
  const S* weight = static_cast<const S*>(call.weight);
  if (call.panels) pack_transposed(weight, call.sizes.outputs, call.sizes.inputs, static_cast<E*>(call.panels));
  if (call.grad_panels) pack(weight, call.sizes.outputs, call.sizes.inputs, static_cast<E*>(call.grad_panels));
}

// y of one block of rows and columns, and linear if it is kept.
template <class S>
CIPS3D_INLINE void forward_block(int64_t outputs, const FilmTile<S>& film, int64_t first_row, int64_t rows,
                                 int64_t first_column, const Compute<S>* c, Destination<S> y,
                                 Destination<Compute<S>> kept) {
  using T = Compute<S>;
  const int64_t tile_row = film.rows().tile() * kTileRows;
  film.rows().for_each_sample(first_row, rows, [&](int64_t sample, int64_t begin, int64_t end) {
    for (int v = 0; v < kPanel<T> && first_column + v < outputs; v += kLanes<T>) {
      const int64_t j = first_column + v;
      const Vec<T> g = load(film.g(sample) + j), h = load(film.h(sample) + j), bias = load(film.bias() + j);
      for (int64_t row = begin; row < end; ++row) {
        const int64_t at = (tile_row + row) * outputs + j;
        const Vec<T> linear = load(c + (row - first_row) * kPanel<T> + v) + bias;
        if (kept.array) kept.write(at, outputs - j, linear);
        y.write(at, outputs - j, sin(film_phase(linear, g, h)));
      }
    }
  });
}

template <class S>
void forward(const FilmSineCpuCall& call, int64_t first_tile, int64_t last_tile) {
  using T = Compute<S>;
  using E = Operand<S>;
  const int64_t inputs = call.sizes.inputs, outputs = call.sizes.outputs;
  const RowTiles tiles = call.tiles();
  const Destination<S> y(call.y, tiles.rows(), outputs);
  const Destination<T> kept(call.linear, tiles.rows(), outputs);
  FilmTile<S> film(call, film_of(call));
  ZeroedScratch<E> x(kTileRows * row_stride(inputs));
  ReadAhead next;
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    const int64_t rows_in_tile = tiles.rows_in(tile);
    film.enter(tile);
    load_tile<S>(call, call.x, tile, x);
    next.start(blocks_of<E>(rows_in_tile, outputs));
    if (tile + 1 < last_tile)
      next.add(static_cast<const S*>(call.x), (tile + 1) * kTileRows * inputs, tiles.rows_in(tile + 1) * inputs);
    multiply(rows_in_tile, inputs, outputs, static_cast<const E*>(x), row_stride(inputs),
             static_cast<const E*>(call.panels),
             [&](int64_t first_row, int64_t rows, int64_t first_column, const T* c) {
               next.step();
               forward_block<S>(outputs, film, first_row, rows, first_column, c, y, kept);
             });
  }
  y.finish();
  kept.finish();
}

// grad_linear of rows [begin, end) of one sample, a vector of columns from j on, into `z`, from their linear(row); and
// their share of the segment's sums of grad_h and grad_g.
template <class S, class Linear>
CIPS3D_INLINE void backward_columns(const FilmSineCpuCall& call, const FilmTile<S>& film, int64_t sample, int64_t begin,
                                    int64_t end, int64_t j, const Linear& linear, Operand<S>* z) {
  using T = Compute<S>;
  const int64_t outputs = call.sizes.outputs, left = outputs - j, tile = film.rows().tile();
  const S* grad_y = static_cast<const S*>(call.grad_y) + tile * kTileRows * outputs + j;
  T* sums_h = static_cast<T*>(call.segment_sums) + call.tiles().segment(tile, sample) * kFilmSums * padded(outputs) + j;
  T* sums_g = sums_h + padded(outputs);
  const bool starts = film.rows().starts_segment(begin);
  const Vec<T> g = load(film.g(sample) + j), h = load(film.h(sample) + j);
  Vec<T> sum_h = starts ? Vec<T>{} : load(sums_h), sum_g = starts ? Vec<T>{} : load(sums_g);
  for (int64_t row = begin; row < end; ++row) {
    const Vec<T> linear_v = linear(row);
    const Vec<T> grad_h = load_first(grad_y + row * outputs, left) * cos(film_phase(linear_v, g, h));
    sum_h += grad_h;
    sum_g += grad_h * linear_v;
    store(z + row * row_stride(outputs) + j, grad_h * g);
  }
  store(sums_h, sum_h);
  store(sums_g, sum_g);
}

// backward_columns of a tile, from what forward kept.
template <class S>
void backward_from_kept(const FilmSineCpuCall& call, const FilmTile<S>& film, int64_t rows, Operand<S>* z) {
  const int64_t outputs = call.sizes.outputs;
  const Compute<S>* kept = static_cast<const Compute<S>*>(call.linear) + film.rows().tile() * kTileRows * outputs;
  film.rows().for_each_sample(0, rows, [&](int64_t sample, int64_t begin, int64_t end) {
    for (int64_t j = 0; j < outputs; j += kLanes<Compute<S>>) {
      const auto linear = [&](int64_t row) { return load_first(kept + row * outputs + j, outputs - j); };
      backward_columns<S>(call, film, sample, begin, end, j, linear, z);
    }
  });
}

// The same from a product of its own.
template <class S>
void backward_again(const FilmSineCpuCall& call, const FilmTile<S>& film, int64_t rows, const Operand<S>* x,
                    Operand<S>* z) {
  using T = Compute<S>;
  using E = Operand<S>;
  const int64_t inputs = call.sizes.inputs, outputs = call.sizes.outputs;
  multiply(rows, inputs, outputs, x, row_stride(inputs), static_cast<const E*>(call.panels),
           [&](int64_t first_row, int64_t block_rows, int64_t first_column, const T* c) {
             film.rows().for_each_sample(first_row, block_rows, [&](int64_t sample, int64_t begin, int64_t end) {
               for (int v = 0; v < kPanel<T> && first_column + v < outputs; v += kLanes<T>) {
                 const Vec<T> bias = load(film.bias() + first_column + v);
                 const auto linear = [&](int64_t row) { return load(c + (row - first_row) * kPanel<T> + v) + bias; };
                 backward_columns<S>(call, film, sample, begin, end, first_column + v, linear, z);
               }
             });
           });
}

// What the backward of a tile reads.
template <class S>
void read_ahead(const FilmSineCpuCall& call, int64_t tile, ReadAhead& next) {
  const int64_t row = tile * kTileRows, rows = call.tiles().rows_in(tile), outputs = call.sizes.outputs;
  next.add(static_cast<const S*>(call.x), row * call.sizes.inputs, rows * call.sizes.inputs);
  next.add(static_cast<const S*>(call.grad_y), row * outputs, rows * outputs);
  next.add(static_cast<const Compute<S>*>(call.linear), row * outputs, rows * outputs);
}

template <class S>
void backward(const FilmSineCpuCall& call, int64_t worker, int64_t first_tile, int64_t last_tile) {
  using T = Compute<S>;
  using E = Operand<S>;
  const int64_t inputs = call.sizes.inputs, outputs = call.sizes.outputs;
  const int64_t x_stride = row_stride(inputs), z_stride = row_stride(outputs);
  const Destination<S> grad_x(call.grad_x, call.tiles().rows(), inputs);
  FilmTile<S> film(call, film_of(call));
  ZeroedScratch<E> x(kTileRows * x_stride), z(kTileRows * z_stride);
  Scratch<Unit<E>> steps(step_rows_size<E>(kTileRows, z_stride));
  T* weight_partial = static_cast<T*>(call.weight_partials) + worker * call.weight_partial();
  if (call.grad_weight) fill_zero(weight_partial, call.weight_partial());
  ReadAhead next;
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    const int64_t rows = call.tiles().rows_in(tile), first_row = tile * kTileRows;
    film.enter(tile);
    load_tile<S>(call, call.x, tile, x);
    if (call.linear) {
      backward_from_kept<S>(call, film, rows, z);
    } else {
      backward_again<S>(call, film, rows, x, z);
    }
    if (call.grad_weight)
      accumulate_transposed(rows, outputs, inputs, step_rows<E>(z, rows, z_stride, steps), z_stride,
                            static_cast<const E*>(x), x_stride, weight_partial);
    if (!grad_x.array) continue;
    next.start(blocks_of<E>(rows, inputs));
    if (tile + 1 < last_tile) read_ahead<S>(call, tile + 1, next);
    multiply(rows, outputs, inputs, static_cast<const E*>(z), z_stride, static_cast<const E*>(call.grad_panels),
             [&](int64_t block_row, int64_t block_rows, int64_t column, const T* c) {
               next.step();
               store_result_block<S>(c, first_row + block_row, block_rows, column, inputs, grad_x);
             });
  }
  grad_x.finish();
}

template <class S>
void reduce_weight(const FilmSineCpuCall& call, int64_t workers, int64_t first_output, int64_t last_output) {
  using T = Compute<S>;
  const int64_t inputs = call.sizes.inputs;
  const T* partials = static_cast<const T*>(call.weight_partials);
  for (int64_t o = first_output; o < last_output; ++o)
    for (int64_t k = 0; k < inputs; k += kLanes<T>) {
      Vec<T> total = {};
      for (int64_t w = 0; w < workers; ++w)
        total += load(partials + w * call.weight_partial() + o * row_stride(inputs) + k);
      store_first(static_cast<S*>(call.grad_weight) + o * inputs + k, inputs - k, total);
    }
}

// grad_gamma, grad_beta and grad_bias of some columns, from the segments' sums of grad_h and grad_g.
template <class S>
void reduce_film(const FilmSineCpuCall& call, int64_t first_output, int64_t last_output) {
  using T = Compute<S>;
  const int64_t outputs = call.sizes.outputs;
  const RowTiles tiles = call.tiles();
  const T gamma_scale = T(call.options.gamma_scale), gamma_offset = T(call.options.gamma_offset);
  const T beta_scale = T(call.options.beta_scale);
  for (int64_t j = first_output; j < last_output; j += kLanes<T>) {
    const int64_t left = outputs - j;
    Vec<T> grad_bias = {};
    for (int64_t sample = 0; sample < tiles.batch; ++sample) {
      const int64_t at = sample * outputs + j;
      Vec<T> sum_h = {}, sum_g = {};
      for (int64_t s = tiles.first_segment(sample); s <= tiles.last_segment(sample); ++s) {
        const T* sums = static_cast<const T*>(call.segment_sums) + s * kFilmSums * padded(outputs) + j;
        sum_h += load(sums);
        sum_g += load(sums + padded(outputs));
      }
      const Vec<T> g = call.gamma
                           ? gamma_scale * load_first(static_cast<const S*>(call.gamma) + at, left) + gamma_offset
                           : broadcast(T(1));
      grad_bias += g * sum_h;
      if (call.grad_beta) store_first(static_cast<S*>(call.grad_beta) + at, left, beta_scale * sum_h);
      if (call.grad_gamma) store_first(static_cast<S*>(call.grad_gamma) + at, left, gamma_scale * sum_g);
    }
    if (call.grad_bias) store_first(static_cast<S*>(call.grad_bias) + j, left, grad_bias);
  }
}

template <class S>
constexpr FilmSineCpuKernels kernels_of() {
  return {pack_weight<S>, forward<S>, backward<S>, second<S>, reduce_weight<S>, reduce_film<S>, reduce_second<S>};
}
constexpr FilmSineCpuKernels kKernels[kCpuDtypes] = {kernels_of<double>(), kernels_of<float>(), kernels_of<bfloat16>(),
                                                     kernels_of<float16>()};

}  // namespace
}  // namespace cips3d::CIPS3D_SIMD_NS

namespace cips3d {
const FilmSineCpuKernels* CIPS3D_LEVEL_NAME(film_sine_cpu_kernels)() { return CIPS3D_SIMD_NS::kKernels; }
}  // namespace cips3d
