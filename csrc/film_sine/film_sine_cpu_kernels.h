// film_sine's CPU kernels: compiled once per SIMD level (simd.h) for each dtype.
//
// Computes  forward: y = sin(g * (x W^T + bias) + h); backward: the gradients of all five inputs, recomputing x W^T
// Axes      B batch, N points, I in, O out; tiles of kTileRows of the B * N rows (cpu_tiles.h)
// Launch    any thread takes any tiles; in backward a worker adds to its own share of grad_weight
// Traffic   forward reads x and writes y once; backward reads x and grad_y and writes grad_x once; nothing per point is
// kept Numerics  float32 (float64 for float64), rounded once at the end; sums over points tile by tile Limit     the
// matrix products' multiply-adds for I >= 64 or so, the sine below
#include "common/cpu_gemm.h"
#include "common/simd_math.h"
#include "film_sine/film_sine_cpu.h"

namespace cips3d::CIPS3D_SIMD_NS {
namespace {

// The bias, and g and h of the samples that a tile touches.
template <class S>
class FilmTile {
 public:
  using T = Compute<S>;

  explicit FilmTile(const FilmSineCpuCall& call)
      : call_(call),
        rows_(call.tiles()),
        width_(padded(call.sizes.outputs)),
        films_(2 * call.tiles().samples_per_tile() * width_),
        bias_(width_) {
    fill_zero<T>(bias_, width_);
    if (call.bias) load_row(static_cast<const S*>(call.bias), call.sizes.outputs, static_cast<T*>(bias_));
  }

  void enter(int64_t tile) {
    const RowTiles tiles = call_.tiles();
    rows_.enter(tile);
    for (int64_t sample = tiles.first_sample(tile); sample <= tiles.last_sample(tile); ++sample) load_film(sample);
  }

  const TileRows& rows() const { return rows_; }
  const T* bias() const { return bias_; }
  const T* g(int64_t sample) const { return films_ + 2 * (sample - rows_.first_sample()) * width_; }
  const T* h(int64_t sample) const { return g(sample) + width_; }

 private:
  void load_film(int64_t sample) {
    const FilmSineOptions& o = call_.options;
    const T gamma_scale = T(o.gamma_scale), gamma_offset = T(o.gamma_offset), beta_scale = T(o.beta_scale);
    const int64_t outputs = call_.sizes.outputs;
    T* g = films_ + 2 * (sample - rows_.first_sample()) * width_;
    for (int64_t j = 0; j < outputs; j += kLanes<T>) {
      const int64_t at = sample * outputs + j, left = outputs - j;
      store(g + j, call_.gamma ? gamma_scale * load_first(static_cast<const S*>(call_.gamma) + at, left) + gamma_offset
                               : broadcast(T(1)));
      store(g + width_ + j,
            call_.beta ? beta_scale * load_first(static_cast<const S*>(call_.beta) + at, left) : Vec<T>{});
    }
  }

  const FilmSineCpuCall& call_;
  TileRows rows_;
  int64_t width_;
  Scratch<T> films_, bias_;
};

// Rows of x in T, padded with zeros; the unused rows of the last tile stay as they were.
template <class S>
void load_tile(const FilmSineCpuCall& call, int64_t tile, Compute<S>* to) {
  const int64_t inputs = call.sizes.inputs;
  const S* x = static_cast<const S*>(call.x) + tile * kTileRows * inputs;
  for (int64_t r = 0; r < call.tiles().rows_in(tile); ++r)
    load_row(x + r * inputs, inputs, to + r * row_stride(inputs));
}

template <class S>
void pack_weight(const FilmSineCpuCall& call) {
  using T = Compute<S>;
  const S* weight = static_cast<const S*>(call.weight);
  if (call.panels) pack_transposed(weight, call.sizes.outputs, call.sizes.inputs, static_cast<T*>(call.panels));
  if (call.grad_panels) pack(weight, call.sizes.outputs, call.sizes.inputs, static_cast<T*>(call.grad_panels));
}

template <class S>
void forward(const FilmSineCpuCall& call, int64_t first_tile, int64_t last_tile) {
  using T = Compute<S>;
  const int64_t inputs = call.sizes.inputs, outputs = call.sizes.outputs;
  FilmTile<S> film(call);
  ZeroedScratch<T> x(kTileRows * row_stride(inputs));
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    film.enter(tile);
    load_tile<S>(call, tile, x);
    S* y = static_cast<S*>(call.y) + tile * kTileRows * outputs;
    multiply(
        call.tiles().rows_in(tile), inputs, outputs, static_cast<const T*>(x), row_stride(inputs),
        static_cast<const T*>(call.panels), [&](int64_t first_row, int64_t rows, int64_t first_column, const T* c) {
          film.rows().for_each_sample(first_row, rows, [&](int64_t sample, int64_t begin, int64_t end) {
            for (int v = 0; v < kPanel<T> && first_column + v < outputs; v += kLanes<T>) {
              const int64_t j = first_column + v;
              const Vec<T> g = load(film.g(sample) + j), h = load(film.h(sample) + j), bias = load(film.bias() + j);
              for (int64_t row = begin; row < end; ++row) {
                const Vec<T> linear = load(c + (row - first_row) * kPanel<T> + v) + bias;
                store_first(y + row * outputs + j, outputs - j, sin(film_phase(linear, g, h)));
              }
            }
          });
        });
  }
}

// grad_linear of one block of rows and columns into `z`, and its shares of the samples' sums of grad_h and grad_g.
template <class S>
CIPS3D_INLINE void backward_block(const FilmSineCpuCall& call, const FilmTile<S>& film, int64_t tile, int64_t first_row,
                                  int64_t rows, int64_t first_column, const Compute<S>* c, Compute<S>* z) {
  using T = Compute<S>;
  const int64_t outputs = call.sizes.outputs, z_stride = row_stride(outputs);
  const S* grad_y = static_cast<const S*>(call.grad_y) + tile * kTileRows * outputs;
  film.rows().for_each_sample(first_row, rows, [&](int64_t sample, int64_t begin, int64_t end) {
    T* sums = static_cast<T*>(call.segment_sums) + call.tiles().segment(tile, sample) * 2 * padded(outputs);
    for (int v = 0; v < kPanel<T> && first_column + v < outputs; v += kLanes<T>) {
      const int64_t j = first_column + v;
      const Vec<T> g = load(film.g(sample) + j), h = load(film.h(sample) + j), bias = load(film.bias() + j);
      Vec<T> sum_h = load(sums + j), sum_g = load(sums + padded(outputs) + j);
      for (int64_t row = begin; row < end; ++row) {
        const Vec<T> linear = load(c + (row - first_row) * kPanel<T> + v) + bias;
        const Vec<T> grad_h = load_first(grad_y + row * outputs + j, outputs - j) * cos(film_phase(linear, g, h));
        sum_h += grad_h;
        sum_g += grad_h * linear;
        store(z + row * z_stride + j, grad_h * g);
      }
      store(sums + j, sum_h);
      store(sums + padded(outputs) + j, sum_g);
    }
  });
}

template <class S>
void backward(const FilmSineCpuCall& call, int64_t worker, int64_t first_tile, int64_t last_tile) {
  using T = Compute<S>;
  const int64_t inputs = call.sizes.inputs, outputs = call.sizes.outputs;
  const int64_t x_stride = row_stride(inputs), z_stride = row_stride(outputs);
  const RowTiles tiles = call.tiles();
  FilmTile<S> film(call);
  ZeroedScratch<T> x(kTileRows * x_stride), z(kTileRows * z_stride);
  T* weight_partial = static_cast<T*>(call.weight_partials) + worker * call.weight_partial();
  if (call.grad_weight) fill_zero(weight_partial, call.weight_partial());
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    const int64_t rows = tiles.rows_in(tile), first_row = tile * kTileRows;
    film.enter(tile);
    load_tile<S>(call, tile, x);
    for (int64_t sample = tiles.first_sample(tile); sample <= tiles.last_sample(tile); ++sample)
      fill_zero(static_cast<T*>(call.segment_sums) + tiles.segment(tile, sample) * 2 * padded(outputs),
                2 * padded(outputs));
    multiply(rows, inputs, outputs, static_cast<const T*>(x), x_stride, static_cast<const T*>(call.panels),
             [&](int64_t block_row, int64_t block_rows, int64_t column, const T* c) {
               backward_block<S>(call, film, tile, block_row, block_rows, column, c, z);
             });
    if (call.grad_weight)
      accumulate_transposed(rows, outputs, inputs, static_cast<const T*>(z), z_stride, static_cast<const T*>(x),
                            x_stride, weight_partial);
    if (!call.grad_x) continue;
    S* grad_x = static_cast<S*>(call.grad_x) + first_row * inputs;
    multiply(rows, outputs, inputs, static_cast<const T*>(z), z_stride, static_cast<const T*>(call.grad_panels),
             [&](int64_t block_row, int64_t block_rows, int64_t column, const T* c) {
               store_result_block(c, block_rows, column, inputs, grad_x + block_row * inputs);
             });
  }
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
        const T* sums = static_cast<const T*>(call.segment_sums) + s * 2 * padded(outputs) + j;
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
  return {pack_weight<S>, forward<S>, backward<S>, reduce_weight<S>, reduce_film<S>};
}
constexpr FilmSineCpuKernels kKernels[kCpuDtypes] = {kernels_of<double>(), kernels_of<float>(), kernels_of<bfloat16>(),
                                                     kernels_of<float16>()};

}  // namespace
}  // namespace cips3d::CIPS3D_SIMD_NS

namespace cips3d {
const FilmSineCpuKernels* CIPS3D_LEVEL_NAME(film_sine_cpu_kernels)() { return CIPS3D_SIMD_NS::kKernels; }
}  // namespace cips3d
