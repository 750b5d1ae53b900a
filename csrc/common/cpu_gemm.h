// Matrix products of one tile of rows, from registers, for the CPU kernels of the layers. One operand is broadcast
// element by element, the other is read in vectors from panels; results go to the caller's epilogue block by block,
// still in L1.
//
// Computes  multiply:             C = A B, B packed in panels, C handed to an epilogue
//           accumulate_transposed: C += A^T B
// Axes      A [rows, depth], B [depth, columns]; working memory padded as in cpu_tiles.h
// Numerics  one accumulator per element of C, summed in the order of depth, in T = float or double
#pragma once
#include "common/cpu_tiles.h"
#include "common/simd.h"

namespace cips3d::CIPS3D_SIMD_NS {

// The register block is kBlockRows x 2 vectors: with 32 registers (AVX-512) 16 accumulators hide the latency of a
// multiply-add; with 16 registers (AVX2, SSE2, NEON counts 32 but vectors are short) 12 or 8 fit beside the operands.
inline constexpr int kBlockRows = kVectorBytes == 64 ? 8 : kVectorBytes == 32 ? 6 : 4;
template <class T>
inline constexpr int kPanel = 2 * kLanes<T>;

static_assert(kTileRows % kBlockRows == 0 && kBlockPadding % kBlockRows == 0 && kPadding % kPanel<float> == 0);

// acc[i][v] += sum_k a[i * a_row + k * a_depth] * b[k * b_stride + v * lanes], b squared if kSquareB.
template <int kVectors, bool kSquareB, class T>
CIPS3D_INLINE void multiply_add(Vec<T> (&acc)[kBlockRows][kVectors], const T* a, int64_t a_row, int64_t a_depth,
                                const T* b, int64_t b_stride, int64_t depth) {
  for (int64_t k = 0; k < depth; ++k) {
    Vec<T> b_k[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      b_k[v] = load(b + k * b_stride + v * kLanes<T>);
      if constexpr (kSquareB) b_k[v] *= b_k[v];
    }
#pragma GCC unroll 8
    for (int i = 0; i < kBlockRows; ++i) {
      const Vec<T> a_ik = broadcast(a[i * a_row + k * a_depth]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) acc[i][v] += a_ik * b_k[v];
    }
  }
}

template <int kVectors, class T>
CIPS3D_INLINE void load_block(Vec<T> (&acc)[kBlockRows][kVectors], const T* c, int64_t stride) {
#pragma GCC unroll 8
  for (int i = 0; i < kBlockRows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) acc[i][v] = load(c + i * stride + v * kLanes<T>);
}
template <int kVectors, class T>
CIPS3D_INLINE void store_block(const Vec<T> (&acc)[kBlockRows][kVectors], T* c, int64_t stride) {
#pragma GCC unroll 8
  for (int i = 0; i < kBlockRows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) store(c + i * stride + v * kLanes<T>, acc[i][v]);
}

template <int kVectors, bool kSquareB, class T>
CIPS3D_INLINE void multiply_block(const T* a, int64_t a_stride, const T* panel, int64_t depth, T* c) {
  Vec<T> acc[kBlockRows][kVectors] = {};
  multiply_add<kVectors, kSquareB>(acc, a, a_stride, int64_t{1}, panel, kPanel<T>, depth);
  store_block<kVectors>(acc, c, kPanel<T>);
}

// C = A B for `rows` rows of A (readable up to a multiple of kBlockRows). The epilogue is called as
// epilogue(first_row, block_rows, first_column, c) with c[row * kPanel + column] of up to kBlockRows x kPanel elements.
template <bool kSquareB = false, class T, class Epilogue>
CIPS3D_INLINE void multiply(int64_t rows, int64_t depth, int64_t columns, const T* a, int64_t a_stride, const T* panels,
                            const Epilogue& epilogue) {
  alignas(64) T c[kBlockRows * kPanel<T>];
  for (int64_t j = 0; j < columns; j += kPanel<T>) {
    const T* panel = panels + j * depth;
    const bool narrow = columns - j <= kLanes<T>;
    for (int64_t i = 0; i < rows; i += kBlockRows) {
      if (narrow) {
        multiply_block<1, kSquareB>(a + i * a_stride, a_stride, panel, depth, c);
      } else {
        multiply_block<2, kSquareB>(a + i * a_stride, a_stride, panel, depth, c);
      }
      epilogue(i, min(kBlockRows, rows - i), j, static_cast<const T*>(c));
    }
  }
}

template <int kVectors, class T>
CIPS3D_INLINE void accumulate_transposed_panel(int64_t rows, int64_t a_columns, const T* a, int64_t a_stride,
                                               const T* b, int64_t b_stride, T* c, int64_t c_stride) {
  for (int64_t i = 0; i < a_columns; i += kBlockRows) {
    Vec<T> acc[kBlockRows][kVectors];
    load_block<kVectors>(acc, c + i * c_stride, c_stride);
    multiply_add<kVectors, false>(acc, a + i, int64_t{1}, a_stride, b, b_stride, rows);
    store_block<kVectors>(acc, c + i * c_stride, c_stride);
  }
}

// C [a_columns, b_columns] += A^T B over `rows` <= kTileRows rows. A's and B's rows are padded with zeros, C has
// padded(a_columns, kBlockPadding) rows of stride row_stride(b_columns).
template <class T>
CIPS3D_INLINE void accumulate_transposed(int64_t rows, int64_t a_columns, int64_t b_columns, const T* a,
                                         int64_t a_stride, const T* b, int64_t b_stride, T* c) {
  alignas(64) T panel[kTileRows * kPanel<T>];  // B's columns, contiguous: they are read once for each block of C
  const int64_t c_stride = row_stride(b_columns);
  for (int64_t j = 0; j < b_columns; j += kPanel<T>) {
    for (int64_t r = 0; r < rows; ++r)
      for (int v = 0; v < 2; ++v)
        store(panel + r * kPanel<T> + v * kLanes<T>, load(b + r * b_stride + j + v * kLanes<T>));
    if (b_columns - j <= kLanes<T>) {
      accumulate_transposed_panel<1>(rows, a_columns, a, a_stride, panel, kPanel<T>, c + j, c_stride);
    } else {
      accumulate_transposed_panel<2>(rows, a_columns, a, a_stride, panel, kPanel<T>, c + j, c_stride);
    }
  }
}

// Packs W [rows, columns] for products with W^T: B(k, n) = W[n, k].
template <class S>
CIPS3D_INLINE void pack_transposed(const S* weight, int64_t rows, int64_t columns, Compute<S>* panels) {
  using T = Compute<S>;
  for (int64_t n = 0; n < padded(rows, kPanel<T>); ++n) {
    T* column = panels + n / kPanel<T> * kPanel<T> * columns + n % kPanel<T>;
    for (int64_t k = 0; k < columns; k += kLanes<T>) {
      const int64_t left = min(kLanes<T>, columns - k);
      const Vec<T> v = n < rows ? load_first(weight + n * columns + k, left) : Vec<T>{};
      for (int64_t lane = 0; lane < left; ++lane) column[(k + lane) * kPanel<T>] = v[lane];
    }
  }
}

// Packs W [rows, columns] for products with W: B(k, n) = W[k, n].
template <class S>
CIPS3D_INLINE void pack(const S* weight, int64_t rows, int64_t columns, Compute<S>* panels) {
  using T = Compute<S>;
  for (int64_t n = 0; n < columns; n += kLanes<T>) {
    T* to = panels + n / kPanel<T> * kPanel<T> * rows + n % kPanel<T>;
    for (int64_t k = 0; k < rows; ++k) store(to + k * kPanel<T>, load_first(weight + k * columns + n, columns - n));
  }
}

// Elements of either packing.
CIPS3D_INLINE int64_t packed_size(int64_t depth, int64_t columns) { return depth * padded(columns); }

template <class T>
CIPS3D_INLINE void fill_zero(T* p, int64_t count) {
  for (int64_t i = 0; i < count; ++i) p[i] = 0;
}

// An epilogue's block that is the result itself: `to` is the block's first row, of rows of `columns` elements.
template <class S>
CIPS3D_INLINE void store_result_block(const Compute<S>* c, int64_t rows, int64_t first_column, int64_t columns, S* to) {
  using T = Compute<S>;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = first_column; j < min(columns, first_column + kPanel<T>); j += kLanes<T>)
      store_first(to + r * columns + j, columns - j, load(c + r * kPanel<T> + j - first_column));
}

// A row of any storage type to T, with zeros up to the padding.
template <class S>
CIPS3D_INLINE void load_row(const S* from, int64_t count, Compute<S>* to) {
  constexpr int64_t lanes = kLanes<Compute<S>>;
  int64_t k = 0;
  for (; k + lanes <= count; k += lanes) store(to + k, load(from + k));
  for (; k < padded(count); k += lanes) store(to + k, load_first(from + k, max(count - k, 0)));
}

// Which sample each row of a tile belongs to.
class TileRows {
 public:
  CIPS3D_INLINE explicit TileRows(const RowTiles& tiles) : tiles_(tiles) {}

  CIPS3D_INLINE void enter(int64_t tile) {
    tile_ = tile;
    int64_t row = 0;
    for (int64_t sample = tiles_.first_sample(tile); sample <= tiles_.last_sample(tile); ++sample)
      for (; row < min(end_of(sample), kTileRows); ++row) sample_of_[row] = sample;
  }

  CIPS3D_INLINE int64_t tile() const { return tile_; }
  CIPS3D_INLINE int64_t first_sample() const { return sample_of_[0]; }
  CIPS3D_INLINE int64_t sample_of(int64_t row) const { return sample_of_[row]; }

  // body(sample, first_row, end_row) for each sample that has rows among the `rows` from first_row on.
  template <class Body>
  CIPS3D_INLINE void for_each_sample(int64_t first_row, int64_t rows, const Body& body) const {
    const int64_t end = first_row + rows;
    for (int64_t row = first_row; row < end;) {
      const int64_t next = min(end, end_of(sample_of_[row]));
      body(sample_of_[row], row, next);
      row = next;
    }
  }

 private:
  // The first row, counted in the tile, that belongs to a later sample.
  CIPS3D_INLINE int64_t end_of(int64_t sample) const { return (sample + 1) * tiles_.points - tile_ * kTileRows; }

  RowTiles tiles_;
  int64_t tile_ = 0;
  int64_t sample_of_[kTileRows];
};

}  // namespace cips3d::CIPS3D_SIMD_NS
