// How the CPU kernels of the layers (modfc, film_sine) cut their work: the batch * points rows of x, whichever sample
// they belong to, go in tiles of kTileRows. Sums over one sample's points are deterministic for any number of threads:
// each (tile, sample) pair that has rows in common, a segment, has its own partial sum, and a sample's segments are
// added in order.
#pragma once
#include <cstdint>

#include "common/host_device.h"

namespace cips3d {

inline constexpr int64_t kTileRows = 96;  // a multiple of every level's register block; a tile of 512 floats fits in L2
inline constexpr int64_t kMostTileRows = 192;  // of any op's tiles: accumulate_transposed() has room for so many
inline constexpr int64_t kPadding = 32;  // a multiple of every level's panel width: rows in working memory end in zeros
// Rows of working memory are this much longer still: strides that are powers of two fall on the same cache sets, and
// the last register block of a transposed product may reach 16 columns past the padding.
inline constexpr int64_t kRowSlack = 16;
inline constexpr int64_t kBlockPadding = 24;  // a multiple of every level's register block (8, 6, 4 rows)

CIPS3D_HOST_DEVICE int64_t padded(int64_t n, int64_t multiple = kPadding) {
  return (n + multiple - 1) / multiple * multiple;
}
CIPS3D_HOST_DEVICE int64_t row_stride(int64_t n) { return padded(n) + kRowSlack; }

struct RowTiles {
  int64_t batch;
  int64_t points;

  CIPS3D_HOST_DEVICE int64_t rows() const { return batch * points; }
  CIPS3D_HOST_DEVICE int64_t count() const { return (rows() + kTileRows - 1) / kTileRows; }
  CIPS3D_HOST_DEVICE int64_t rows_in(int64_t tile) const {
    const int64_t left = rows() - tile * kTileRows;
    return left < kTileRows ? left : kTileRows;
  }
  CIPS3D_HOST_DEVICE int64_t first_sample(int64_t tile) const { return tile * kTileRows / points; }
  CIPS3D_HOST_DEVICE int64_t last_sample(int64_t tile) const { return (tile * kTileRows + rows_in(tile) - 1) / points; }
  // The most samples that one tile touches.
  CIPS3D_HOST_DEVICE int64_t samples_per_tile() const {
    const int64_t most = (kTileRows - 1) / points + 2;
    return most < batch ? most : batch;
  }
  // Going through the rows, each step into the next tile and each step into the next sample starts a segment: counting
  // both numbers them, with some numbers left out.
  CIPS3D_HOST_DEVICE int64_t segments() const { return count() + batch; }
  CIPS3D_HOST_DEVICE int64_t segment(int64_t tile, int64_t sample) const { return tile + sample; }
  CIPS3D_HOST_DEVICE int64_t first_segment(int64_t sample) const { return sample * points / kTileRows + sample; }
  CIPS3D_HOST_DEVICE int64_t last_segment(int64_t sample) const {
    return ((sample + 1) * points - 1) / kTileRows + sample;
  }
};

}  // namespace cips3d
