// Matrix products of one tile of rows, from registers, for the CPU kernels of the layers. One operand is broadcast
// unit by unit, the other is read in vectors of units from panels or rows; results go to the caller's epilogue block by
// block, still in L1.
//
// Computes  multiply:                       C = A B, B packed in panels, C handed to an epilogue
//           multiply_rows:                  the same of a tile of columns, B in rows
//           accumulate_transposed:          C += A^T B
//           accumulate_transposed_columns:  the same of a tile of columns, C += A B^T
// Axes      A [rows, depth], B [depth, columns]; working memory padded as in cpu_tiles.h
// Numerics  one accumulator per element of C, summed in the order of depth (by pairs for bfloat16), in T = float or
//           double; accumulate_* add the sum over a tile to C, which is rounded once a tile and not once a row
#pragma once
#include "common/cpu_destination.h"
#include "common/cpu_tiles.h"
#include "common/simd.h"

namespace cips3d::CIPS3D_SIMD_NS {

// What products of a storage type multiply: bfloat16 where the level has a dot product for it, else the compute type.
template <class S>
struct OperandOf {
  using type = Compute<S>;
};
// A step along depth multiplies one unit of each operand: one number, or two bfloat16 that are neighbours along depth.
template <class E>
struct UnitOf {
  using type = E;
};
#if defined(__AVX512BF16__)
template <>
struct OperandOf<bfloat16> {
  using type = bfloat16;
};
template <>
struct UnitOf<bfloat16> {
  using type = uint32_t;
};
#endif
template <class S>
using Operand = typename OperandOf<S>::type;
template <class E>
using Unit = typename UnitOf<E>::type;
template <class E>
using Units = Vec<Unit<E>>;
template <class E>
inline constexpr int kStep = sizeof(Unit<E>) / sizeof(E);
template <class E>
CIPS3D_INLINE int64_t steps_of(int64_t depth) {
  return (depth + kStep<E> - 1) / kStep<E>;
}
template <class E>
CIPS3D_INLINE const Unit<E>* as_units(const E* p) {
  return reinterpret_cast<const Unit<E>*>(p);
}

// The register block is kBlockRows x 2 vectors: with 32 registers (AVX-512) 16 accumulators hide the latency of a
// multiply-add; with 16 registers (AVX2, SSE2, NEON counts 32 but vectors are short) 12 or 8 fit beside the operands.
inline constexpr int kBlockRows = kVectorBytes == 64 ? 8 : kVectorBytes == 32 ? 6 : 4;
template <class T>
inline constexpr int kPanel = 2 * kLanes<T>;

static_assert(kTileRows % kBlockRows == 0 && kBlockPadding % kBlockRows == 0 && kPadding % kPanel<float> == 0);

template <class V>
CIPS3D_INLINE V multiply_units(V sum, V a, V b) {
  return sum + a * b;
}
#if defined(__AVX512BF16__)
CIPS3D_INLINE Vec<float> multiply_units(Vec<float> sum, Bits a, Bits b) {
  return (Vec<float>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}
CIPS3D_INLINE Bits load(const Unit<bfloat16>* p) { return (Bits)_mm512_loadu_si512(p); }
CIPS3D_INLINE void store(Unit<bfloat16>* p, Bits v) { _mm512_storeu_si512(p, (__m512i)v); }
#endif

// acc[i][v] += sum_k a[i * a_row + k * a_depth] * b[k * b_stride + v * lanes] over units
template <int kVectors, class E, int kRows>
CIPS3D_INLINE void multiply_add(Vec<Compute<E>> (&acc)[kRows][kVectors], const Unit<E>* a, int64_t a_row,
                                int64_t a_depth, const Unit<E>* b, int64_t b_stride, int64_t steps) {
  for (int64_t k = 0; k < steps; ++k) {
    Units<E> b_k[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) b_k[v] = load(b + k * b_stride + v * kLanes<Compute<E>>);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const Units<E> a_ik = a[i * a_row + k * a_depth] - Units<E>{};
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) acc[i][v] = multiply_units(acc[i][v], a_ik, b_k[v]);
    }
  }
}

template <int kVectors, class T>
CIPS3D_INLINE void add_block(const Vec<T> (&acc)[kBlockRows][kVectors], T* c, int64_t stride) {
#pragma GCC unroll 8
  for (int i = 0; i < kBlockRows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v)
      store(c + i * stride + v * kLanes<T>, load(c + i * stride + v * kLanes<T>) + acc[i][v]);
}
template <int kVectors, class T, int kRows>
CIPS3D_INLINE void store_block(const Vec<T> (&acc)[kRows][kVectors], T* c, int64_t stride) {
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) store(c + i * stride + v * kLanes<T>, acc[i][v]);
}

// Brings a block that is about to be added to into L1: sums of wide layers lie in L3, and products hide its latency.
template <int kVectors, class T>
CIPS3D_INLINE void prefetch_block(const T* c, int64_t stride) {
  constexpr int kLine = 64, kForWriting = 1, kIntoL1 = 3;
  for (int i = 0; i < kBlockRows; ++i)
    for (int at = 0; at < kVectors * kVectorBytes; at += kLine)
      __builtin_prefetch(reinterpret_cast<const char*>(c + i * stride) + at, kForWriting, kIntoL1);
}

// An operand that is broadcast: unit k of row i is at units[i * row + k * depth]. Rows are readable up to a multiple of
// kBlockRows, and zero up to a whole step of depth.
template <class E>
struct Broadcast {
  const Unit<E>* units;
  int64_t row, depth;
};

template <int kVectors, int kRows, class E>
CIPS3D_INLINE void multiply_block(Broadcast<E> a, int64_t first_row, const Unit<E>* b, int64_t b_stride, int64_t steps,
                                  Compute<E>* c) {
  using T = Compute<E>;
  Vec<T> acc[kRows][kVectors] = {};
  multiply_add<kVectors, E>(acc, a.units + first_row * a.row, a.row, a.depth, b, b_stride, steps);
  store_block<kVectors>(acc, c, kPanel<T>);
}

// C = A B, block by block of kRows: vector v of B's panel p at step k is at b[p * b_panel + k * b_stride + v * lanes].
template <int kRows, class E, class Epilogue>
CIPS3D_INLINE void multiply_panels(int64_t rows, int64_t steps, int64_t columns, Broadcast<E> a, const Unit<E>* b,
                                   int64_t b_panel, int64_t b_stride, const Epilogue& epilogue) {
  using T = Compute<E>;
  alignas(64) T c[kRows * kPanel<T>];
  for (int64_t j = 0; j < columns; j += kPanel<T>, b += b_panel) {
    const bool narrow = columns - j <= kLanes<T>;
    for (int64_t i = 0; i < rows; i += kRows) {
      if (narrow) {
        multiply_block<1, kRows>(a, i, b, b_stride, steps, c);
      } else {
        multiply_block<2, kRows>(a, i, b, b_stride, steps, c);
      }
      epilogue(i, min(kRows, rows - i), j, static_cast<const T*>(c));
    }
  }
}

// C = A B for `rows` rows of A (as Broadcast wants them). The epilogue is called as epilogue(first_row, block_rows,
// first_column, c) with c[row * kPanel + column] of up to kBlockRows x kPanel elements.
template <class E, class Epilogue>
CIPS3D_INLINE void multiply(int64_t rows, int64_t depth, int64_t columns, const E* a, int64_t a_stride, const E* panels,
                            const Epilogue& epilogue) {
  constexpr int64_t width = kPanel<Compute<E>>;
  const int64_t steps = steps_of<E>(depth);
  multiply_panels<kBlockRows, E>(rows, steps, columns, {as_units(a), a_stride / kStep<E>, 1}, as_units(panels),
                                 steps * width, width, epilogue);
}

// The same for B in rows of units [steps, b_stride]; few rows of A, such as colours, are multiplied in smaller blocks.
template <class E, class Epilogue>
CIPS3D_INLINE void multiply_rows(int64_t rows, int64_t depth, int64_t columns, Broadcast<E> a, const Unit<E>* b,
                                 int64_t b_stride, const Epilogue& epilogue) {
  constexpr int64_t width = kPanel<Compute<E>>;
  const int64_t steps = steps_of<E>(depth);
  if (rows <= kBlockRows / 2) {
    multiply_panels<kBlockRows / 2, E>(rows, steps, columns, a, b, width, b_stride, epilogue);
  } else {
    multiply_panels<kBlockRows, E>(rows, steps, columns, a, b, width, b_stride, epilogue);
  }
}

// How many times `multiply` calls its epilogue.
template <class E>
CIPS3D_INLINE int64_t blocks_of(int64_t rows, int64_t columns) {
  return round_up(rows, kBlockRows) / kBlockRows * (round_up(columns, kPanel<Compute<E>>) / kPanel<Compute<E>>);
}

// Up to kLanes columns from `p` on, as units of kStep rows below each other; rows and columns that are not there are 0.
template <class E, class S>
CIPS3D_INLINE Units<E> units_of_columns(const S* p, int64_t stride, int64_t rows, int64_t columns) {
  const auto first = load_first(p, columns);
  if constexpr (kStep<E> == 1) {
    return first;
  } else {
    const Bits second = rows > 1 ? (Bits)load_first(p + stride, columns) : Bits{};  // a bfloat16 in the upper half
    return (Bits)first >> 16 | second;
  }
}

// Up to kLanes units of one row.
template <class E, class S>
CIPS3D_INLINE Units<E> units_of_row(const S* p, int64_t count) {
  if constexpr (kStep<E> == 1) {
    return load_first(p, count);
  } else {
    constexpr int64_t most = kStep<E> * kLanes<Compute<E>>;
    if (count >= most) return load(as_units(p));
    E buffer[most] = {};
    for (int64_t i = 0; i < count; ++i) buffer[i] = p[i];
    return load(as_units(buffer));
  }
}

// Rows of any storage type as units of kStep rows below each other, [steps, stride].
template <class E, class S>
CIPS3D_INLINE void pack_rows(const S* from, int64_t rows, int64_t columns, int64_t stride, Unit<E>* to) {
  for (int64_t r = 0; r < rows; r += kStep<E>)
    for (int64_t i = 0; i < columns; i += kLanes<Compute<E>>)
      store(to + r / kStep<E> * stride + i,
            units_of_columns<E>(from + r * columns + i, columns, rows - r, columns - i));
}

// The same of rows of operands, in memory of step_rows_size() units; single numbers are their own units.
template <class E>
CIPS3D_INLINE int64_t step_rows_size(int64_t rows, int64_t stride) {
  return kStep<E> == 1 ? 0 : steps_of<E>(rows) * stride;
}
template <class E>
CIPS3D_INLINE const Unit<E>* step_rows(const E* a, int64_t rows, int64_t stride, Unit<E>* to) {
  if constexpr (kStep<E> == 1) return a;
  pack_rows<E>(a, rows, stride, stride, to);
  return to;
}

template <int kVectors, class E>
CIPS3D_INLINE void accumulate_vectors(int64_t steps, int64_t rows, Broadcast<E> a, const Unit<E>* panel, Compute<E>* c,
                                      int64_t c_stride) {
  using T = Compute<E>;
  for (int64_t i = 0; i < rows; i += kBlockRows) {
    Vec<T> acc[kBlockRows][kVectors] = {};
    prefetch_block<kVectors>(c + i * c_stride, c_stride);
    multiply_add<kVectors, E>(acc, a.units + i * a.row, a.row, a.depth, panel, kPanel<T>, steps);
    add_block<kVectors>(acc, c + i * c_stride, c_stride);
  }
}

// C [rows, columns] += A B over one panel of B, in the columns of C that begin at `c` and end after `columns`.
template <class E>
CIPS3D_INLINE void accumulate_panel(int64_t steps, int64_t rows, int64_t columns, Broadcast<E> a, const Unit<E>* panel,
                                    Compute<E>* c, int64_t c_stride) {
  if (columns <= kLanes<Compute<E>>) {
    accumulate_vectors<1>(steps, rows, a, panel, c, c_stride);
  } else {
    accumulate_vectors<2>(steps, rows, a, panel, c, c_stride);
  }
}

// C [a_columns, b_columns] += A^T B over `rows` <= kMostTileRows rows, A from step_rows. A's and B's rows are padded
// with zeros, C has padded(a_columns, kBlockPadding) rows of stride row_stride(b_columns).
template <class E>
CIPS3D_INLINE void accumulate_transposed(int64_t rows, int64_t a_columns, int64_t b_columns, const Unit<E>* a,
                                         int64_t a_stride, const E* b, int64_t b_stride, Compute<E>* c) {
  using T = Compute<E>;
  alignas(64) Unit<E> panel[kMostTileRows * kPanel<T>];  // B's columns, contiguous: read once for each block of C
  const int64_t c_stride = row_stride(b_columns);
  for (int64_t j = 0; j < b_columns; j += kPanel<T>) {
    for (int64_t r = 0; r < rows; r += kStep<E>)
      for (int v = 0; v < kPanel<T>; v += kLanes<T>)
        store(panel + r / kStep<E> * kPanel<T> + v,
              units_of_columns<E>(b + r * b_stride + j + v, b_stride, rows - r, b_stride));
    accumulate_panel<E>(steps_of<E>(rows), a_columns, b_columns - j, {a, 1, a_stride}, panel, c + j, c_stride);
  }
}

// kLanes x kLanes units, transposed in registers.
template <class U>
CIPS3D_INLINE void transpose_square(const U* from, int64_t from_stride, U* to, int64_t to_stride) {
  constexpr int n = kVectorBytes / static_cast<int>(sizeof(U));
  typedef decltype(Vec<U>{} > Vec<U>{}) Lanes;
  Lanes low, high;  // which lanes of two vectors side by side are those of their interleaved halves
#pragma GCC unroll 16
  for (int i = 0; i < n; ++i) {
    low[i] = i / 2 + i % 2 * n;
    high[i] = low[i] + n / 2;
  }
  Vec<U> v[n], w[n];
  for (int i = 0; i < n; ++i) v[i] = load(from + i * from_stride);
#pragma GCC unroll 4
  for (int round = 1; round < n; round *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < n / 2; ++i) {
      w[2 * i] = __builtin_shuffle(v[i], v[i + n / 2], low);
      w[2 * i + 1] = __builtin_shuffle(v[i], v[i + n / 2], high);
    }
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) v[i] = w[i];
  }
  for (int i = 0; i < n; ++i) store(to + i * to_stride, v[i]);
}

// C [a_rows, b_rows] += A B^T over `columns` <= kMostTileRows columns. A and B are padded with zeros to a whole step of
// columns, B to a multiple of kPanel rows; C as for accumulate_transposed.
template <class E>
CIPS3D_INLINE void accumulate_transposed_columns(int64_t columns, int64_t a_rows, int64_t b_rows, const E* a,
                                                 const E* b, int64_t stride, Compute<E>* c) {
  using T = Compute<E>;
  constexpr int lanes = kLanes<T>;
  alignas(64) Unit<E> panel[kMostTileRows * kPanel<T>];  // B's rows as columns
  const int64_t steps = steps_of<E>(columns), unit_stride = stride / kStep<E>, c_stride = row_stride(b_rows);
  for (int64_t j = 0; j < b_rows; j += kPanel<T>) {
    for (int v = 0; v < kPanel<T>; v += lanes)
      for (int64_t k = 0; k < steps; k += lanes)
        transpose_square(as_units(b) + (j + v) * unit_stride + k, unit_stride, panel + k * kPanel<T> + v, kPanel<T>);
    accumulate_panel<E>(steps, a_rows, b_rows - j, {as_units(a), unit_stride, 1}, panel, c + j, c_stride);
  }
}

// Packs W [rows, columns] for products with W^T: B(k, n) = W[n, k].
template <class E, class S>
CIPS3D_INLINE void pack_transposed(const S* weight, int64_t rows, int64_t columns, E* panels) {
  using T = Compute<E>;
  const int64_t steps = steps_of<E>(columns);
  for (int64_t n = 0; n < padded(rows, kPanel<T>); ++n) {
    Unit<E>* column = reinterpret_cast<Unit<E>*>(panels) + n / kPanel<T> * kPanel<T> * steps + n % kPanel<T>;
    for (int64_t k = 0; k < steps; k += kLanes<T>) {
      const int64_t at = k * kStep<E>;
      const Units<E> v = n < rows ? units_of_row<E>(weight + n * columns + at, columns - at) : Units<E>{};
      for (int64_t lane = 0; lane < min(kLanes<T>, steps - k); ++lane) column[(k + lane) * kPanel<T>] = v[lane];
    }
  }
}

// Packs W [rows, columns] for products with W: B(k, n) = W[k, n].
template <class E, class S>
CIPS3D_INLINE void pack(const S* weight, int64_t rows, int64_t columns, E* panels) {
  using T = Compute<E>;
  const int64_t steps = steps_of<E>(rows);
  for (int64_t n = 0; n < columns; n += kLanes<T>) {
    Unit<E>* to = reinterpret_cast<Unit<E>*>(panels) + n / kPanel<T> * kPanel<T> * steps + n % kPanel<T>;
    for (int64_t k = 0; k < rows; k += kStep<E>)
      store(to + k / kStep<E> * kPanel<T>,
            units_of_columns<E>(weight + k * columns + n, columns, rows - k, columns - n));
  }
}

// W[k, n...] from what `pack` made of W [rows, columns].
template <class E>
CIPS3D_INLINE Vec<Compute<E>> load_packed(const E* panels, int64_t rows, int64_t k, int64_t n) {
  constexpr int64_t width = kPanel<Compute<E>>;
  const Units<E> v = load(as_units(panels) + n / width * width * steps_of<E>(rows) + k / kStep<E> * width + n % width);
  if constexpr (kStep<E> == 1) {
    return v;
  } else {
    return (Vec<Compute<E>>)(k % kStep<E> == 0 ? v << 16 : v & 0xffff0000u);  // a bfloat16 is a float's upper half
  }
}

template <class T>
CIPS3D_INLINE void fill_zero(T* p, int64_t count) {
  for (int64_t i = 0; i < count; ++i) p[i] = 0;
}

// An epilogue's block that is the result itself, from row `first_row` of `to` on, of rows of `columns` elements.
template <class S>
CIPS3D_INLINE void store_result_block(const Compute<S>* c, int64_t first_row, int64_t rows, int64_t first_column,
                                      int64_t columns, Destination<S> to) {
  using T = Compute<S>;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = first_column; j < min(columns, first_column + kPanel<T>); j += kLanes<T>)
      to.write((first_row + r) * columns + j, columns - j, load(c + r * kPanel<T> + j - first_column));
}

// A row of any storage type to T or to an operand's type, with zeros up to the padding.
template <class S, class E>
CIPS3D_INLINE void load_row(const S* from, int64_t count, E* to) {
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
  // Whether a row is the first one of its sample in this tile.
  CIPS3D_INLINE bool starts_segment(int64_t row) const { return row == 0 || sample_of_[row - 1] != sample_of_[row]; }

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
