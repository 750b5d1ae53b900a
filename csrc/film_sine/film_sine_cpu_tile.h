// What film_sine's CPU kernels share: the films and the inputs of a tile of rows.
#pragma once
#include "common/cpu_gemm.h"
#include "common/simd_math.h"
#include "film_sine/film_sine_cpu.h"

namespace cips3d::CIPS3D_SIMD_NS {
namespace {

// Where g = gamma_scale * gamma + gamma_offset and h = beta_scale * beta come from; g without gamma.
struct Film {
  const void *gamma, *beta;
  double gamma_offset, without_gamma;
};
inline Film film_of(const FilmSineCpuCall& call) { return {call.gamma, call.beta, call.options.gamma_offset, 1}; }
// Their direction, in a second derivative.
inline Film direction_of(const FilmSineCpuCall& call) { return {call.direction_gamma, call.direction_beta, 0, 0}; }

// The bias, and g and h of the samples that a tile touches.
template <class S>
class FilmTile {
 public:
  using T = Compute<S>;

  FilmTile(const FilmSineCpuCall& call, const Film& film)
      : call_(call),
        film_(film),
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
    const T gamma_scale = T(o.gamma_scale), gamma_offset = T(film_.gamma_offset), beta_scale = T(o.beta_scale);
    const int64_t outputs = call_.sizes.outputs;
    T* g = films_ + 2 * (sample - rows_.first_sample()) * width_;
    for (int64_t j = 0; j < outputs; j += kLanes<T>) {
      const int64_t at = sample * outputs + j, left = outputs - j;
      store(g + j, film_.gamma ? gamma_scale * load_first(static_cast<const S*>(film_.gamma) + at, left) + gamma_offset
                               : broadcast(T(film_.without_gamma)));
      store(g + width_ + j,
            film_.beta ? beta_scale * load_first(static_cast<const S*>(film_.beta) + at, left) : Vec<T>{});
    }
  }

  const FilmSineCpuCall& call_;
  Film film_;
  TileRows rows_;
  int64_t width_;
  Scratch<T> films_, bias_;
};

// Rows of x, or of its direction, as operands, padded with zeros; the unused rows of the last tile stay as they were.
template <class S>
void load_tile(const FilmSineCpuCall& call, const void* rows, int64_t tile, Operand<S>* to) {
  const int64_t inputs = call.sizes.inputs;
  const S* x = static_cast<const S*>(rows) + tile * kTileRows * inputs;
  for (int64_t r = 0; r < call.tiles().rows_in(tile); ++r)
    load_row(x + r * inputs, inputs, to + r * row_stride(inputs));
}

}  // namespace
}  // namespace cips3d::CIPS3D_SIMD_NS
