// Grids [channels, texels] to rows of channels and back, by square blocks in registers.
#pragma once
#include "common/grid_sample_cpu.h"
#include "common/simd.h"

namespace cips3d::CIPS3D_SIMD_NS {

// One step of a transposition: of each pair of vectors `Distance` apart, exchanges the upper lanes of the one for the
// lower of the other, in groups of `Distance` lanes.
template <class T, int Distance>
CIPS3D_INLINE void exchange_lanes(Vec<T> (&v)[kLanes<T>]) {
  constexpr int lanes = kLanes<T>;
  Mask<T> lower, upper;
  for (int lane = 0; lane < lanes; ++lane) {
    lower[lane] = lane & Distance ? lanes + lane - Distance : lane;
    upper[lane] = lane & Distance ? lanes + lane : lane + Distance;
  }
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) {
    if (i & Distance) continue;
    const Vec<T> a = v[i], b = v[i + Distance];
    v[i] = __builtin_shuffle(a, b, lower);
    v[i + Distance] = __builtin_shuffle(a, b, upper);
  }
}

// v[i][j] becomes v[j][i].
template <class T>
CIPS3D_INLINE void transpose(Vec<T> (&v)[kLanes<T>]) {
  exchange_lanes<T, 1>(v);
  if constexpr (kLanes<T> > 2) exchange_lanes<T, 2>(v);
  if constexpr (kLanes<T> > 4) exchange_lanes<T, 4>(v);
  if constexpr (kLanes<T> > 8) exchange_lanes<T, 8>(v);
}

// Rows of texels [first, last) from grid [channels, texels], padded with zeros to whole vectors.
template <class S>
void grid_to_rows(const S* grid, S* rows, int64_t channels, int64_t texels, int64_t row, int64_t first, int64_t last) {
  using T = Compute<S>;
  constexpr int lanes = kLanes<T>;
  for (int64_t texel = first; texel < last; texel += lanes)
    for (int64_t channel = 0; channel < row; channel += lanes) {
      Vec<T> block[lanes];
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i)
        block[i] =
            channel + i < channels ? load_first(grid + (channel + i) * texels + texel, texels - texel) : Vec<T>{};
      transpose<T>(block);
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) store(rows + (texel + i) * row + channel, block[i]);
    }
}

// The other way round for a slice of channels, times `factor`.
template <class S>
void rows_to_grid(const Compute<S>* rows, S* grid, int64_t channels, int64_t texels, int64_t row, Compute<S> factor) {
  using T = Compute<S>;
  constexpr int lanes = kLanes<T>;
  for (int64_t texel = 0; texel < texels; texel += lanes)
    for (int64_t channel = 0; channel < channels; channel += lanes) {
      Vec<T> block[lanes];
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) block[i] = factor * load(rows + (texel + i) * row + channel);
      transpose<T>(block);
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i)
        if (channel + i < channels) store_first(grid + (channel + i) * texels + texel, texels - texel, block[i]);
    }
}

}  // namespace cips3d::CIPS3D_SIMD_NS
