// Tiled matrix product with a prologue on its operands and an epilogue on its result, for every kernel that contracts
// without tensor cores (with them: cuda_tensor_gemm.cuh).
//
// Computes  sum_k A(m,k) B(k,n) for a tile of (m,n), each element passed through its operand's transform when it is
//           read; the epilogue gets the sums, four neighbouring n at a time, and writes whatever the op makes of them.
// Axes      M, N, K. A lies in memory as [M,K] or [K,M], B as [K,N] or [N,K], rows one after the other (see Lies).
// Launch    launch_gemm(): 256 threads a block, grid (tiles of M, tiles of N, splits of K); any sizes, also 0.
// Traffic   A is read N / 64 times, B M / 128 times (mostly from L2), in 16-byte loads where rows are aligned; the next
//           tile is on its way to registers while this one is used.
// Numerics  products and sums in Real (float or double), k ascending, one fused multiply-add each: the same bits in
//           every run. Each split's sum goes to the epilogue on its own; launch_segment_sum() adds them in order.
// Limit     64-bit sizes and offsets; no tensor cores: 32 multiply-adds for 12 shared-memory words.
#pragma once
#include <type_traits>

#include "common/cuda_launch.h"
#include "common/cuda_platform.h"
#include "common/cuda_sizes.h"

namespace cips3d {

constexpr int kThreadM = 8, kThreadN = 4;  // results of one thread
constexpr int kGemmThreads = (kTileM / kThreadM) * (kTileN / kThreadN);
constexpr int kQuad = 4;  // neighbouring elements read and written by one thread
constexpr int kPad = 4;   // of a shared row: keeps 16-byte alignment and spreads banks

static_assert(kThreadN == kQuad && kThreadM % kQuad == 0 && kTileK % kQuad == 0, "tiles are made of quads");

template <class T>
struct alignas(sizeof(T) * kQuad > kVectorBytes ? kVectorBytes : sizeof(T) * kQuad) Quad {
  T element[kQuad];
};

// Whether rows of `columns` elements can be read and written quad by quad.
template <class T>
bool quads_aligned(const T* data, int64_t columns) {
  return reinterpret_cast<uintptr_t>(data) % alignof(Quad<T>) == 0 && columns % kQuad == 0;
}

// Which axis of a matrix lies along its memory rows: k (A as [M,K], B as [N,K]) or not (A as [K,M], B as [K,N]).
enum class Lies { kAlongK, kAcrossK };

// Up to Size neighbouring elements as Real, zero from `count` on; as few accesses as their address allows.
template <class T, class Real, int Size>
__device__ __forceinline__ void load_row(const T* from, int count, Real (&to)[Size]) {
  static_assert(Size % kQuad == 0, "quads are read at once");
  if (count >= Size && reinterpret_cast<uintptr_t>(from) % alignof(Quad<T>) == 0) {
#pragma unroll
    for (int i = 0; i < Size; i += kQuad) {
      const Quad<T> read = *reinterpret_cast<const Quad<T>*>(from + i);
#pragma unroll
      for (int j = 0; j < kQuad; ++j) to[i + j] = static_cast<Real>(read.element[j]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < Size; ++i) to[i] = i < count ? static_cast<Real>(from[i]) : Real(0);
  }
}

// Transform that leaves elements as they are. A transform changes up to `count` neighbours (values, memory row, memory
// column of the first, count); what it makes of those beyond has no effect.
struct Plain {
  template <class Real, int Size>
  __device__ __forceinline__ void operator()(Real (&)[Size], int64_t, int64_t, int) const {}
};

// A matrix in memory, [rows, columns].
template <class T, class Transform = Plain>
struct Operand {
  using Element = T;
  using Change = Transform;
  const T* data;
  int64_t rows, columns;
  bool octets;  // whether rows can be copied 8 elements at a time
  Transform transform;

  Operand(const T* data, int64_t rows, int64_t columns, Transform transform = {})
      : data(data),
        rows(rows),
        columns(columns),
        octets(reinterpret_cast<uintptr_t>(data) % kVectorBytes == 0 && columns % (2 * kQuad) == 0),
        transform(transform) {}

  // The transform of elements (row, column ...), zero where there are none.
  template <class Real, int Size>
  __device__ __forceinline__ void transform_row(Real (&values)[Size], int64_t row, int64_t column) const {
    const int count = int(min(int64_t(Size), columns - column));
    transform(values, row, column, count);
#pragma unroll
    for (int i = 0; i < Size; ++i)
      if (i >= count) values[i] = Real(0);
  }

  // Elements (row, column ... column + 3), zero where there are none or row >= row_end.
  template <class Real>
  __device__ __forceinline__ void load(int64_t row, int64_t column, int64_t row_end, Real (&values)[kQuad]) const {
    if (row < row_end && column < columns) {
      load_row(data + row * columns + column, int(min(int64_t(kQuad), columns - column)), values);
      transform_row(values, row, column);
    } else {
#pragma unroll
      for (int i = 0; i < kQuad; ++i) values[i] = Real(0);
    }
  }
};

// Writes up to `count` values to neighbouring elements; whole quads at once if the rows are aligned.
template <class T, class Real>
__device__ __forceinline__ void store_quad(T* to, const Real (&values)[kQuad], int count, bool quads) {
  if (quads) {
    Quad<T> written;
#pragma unroll
    for (int i = 0; i < kQuad; ++i) written.element[i] = static_cast<T>(values[i]);
    *reinterpret_cast<Quad<T>*>(to) = written;
  } else {
#pragma unroll
    for (int i = 0; i < kQuad; ++i)
      if (i < count) to[i] = static_cast<T>(values[i]);
  }
}

// Epilogue that stores the sums as [splits, M, N].
template <class T>
struct StoreSums {
  T* to;
  int64_t m, n;
  bool quads;
  StoreSums(T* to, int64_t m, int64_t n) : to(to), m(m), n(n), quads(quads_aligned(to, n)) {}
  template <class Real>
  __device__ __forceinline__ void operator()(int64_t split, int64_t row, int64_t column, int count,
                                             const Real (&sums)[kQuad]) const {
    store_quad(to + (split * m + row) * n + column, sums, count, quads);
  }
};

// An epilogue with kRowSums adds that many numbers up over each row of a tile: it gets them as its last argument, and
// their sums as store_row_sums(tile along N, row, sums).
template <class Epilogue, class = void>
constexpr int kRowSumsOf = 0;
template <class Epilogue>
constexpr int kRowSumsOf<Epilogue, std::void_t<decltype(Epilogue::kRowSums)>> = Epilogue::kRowSums;

// One thread's quad of a tile, of whose rows each belongs to Lanes neighbouring threads; whole warps come here.
template <int Lanes, class Real, class Epilogue>
__device__ __forceinline__ void finish_quad(const Epilogue& epilogue, bool inside, int64_t split, int64_t tile,
                                            int64_t row, int64_t column, int count, const Real (&sums)[kQuad]) {
  if constexpr (kRowSumsOf<Epilogue> == 0) {
    if (inside) epilogue(split, row, column, count, sums);
  } else {
    Real of_row[kRowSumsOf<Epilogue>] = {};
    if (inside) epilogue(split, row, column, count, sums, of_row);
#pragma unroll
    for (int distance = Lanes / 2; distance > 0; distance /= 2)
#pragma unroll
      for (int i = 0; i < kRowSumsOf<Epilogue>; ++i) of_row[i] += __shfl_xor_sync(kFullWarp, of_row[i], distance);
    if (inside && int(threadIdx.x) % Lanes == 0) epilogue.store_row_sums(tile, row, of_row);
  }
}

// A sample's index from a row of [B * rows_per_sample, ...]; 32-bit division is several times cheaper.
__device__ __forceinline__ int64_t sample_of(int64_t row, int64_t rows_per_sample) {
  if (((row | rows_per_sample) >> 32) == 0) return uint32_t(row) / uint32_t(rows_per_sample);
  return row / rows_per_sample;
}

// One operand's share of a tile, [kTileK][Extent] in shared memory: what each thread fetches, keeps and puts down.
template <class Real, int Extent, Lies Lie>
struct TileLoader {
  static constexpr int kQuads = Extent * kTileK / kQuad / kGemmThreads;
  static constexpr int kQuadsInRow = (Lie == Lies::kAlongK ? kTileK : Extent) / kQuad;
  static_assert(kQuads * kQuad * kGemmThreads == Extent * kTileK, "the tile divides among the threads");
  Real values[kQuads][kQuad];

  // Elements from `first` along M or N and `k` on; k_end ends this block's part of K.
  template <class Source>
  __device__ __forceinline__ void fetch(const Source& source, int64_t first, int64_t k, int64_t k_end) {
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      const int index = int(threadIdx.x) + q * kGemmThreads, row = index / kQuadsInRow,
                column = index % kQuadsInRow * kQuad;
      if (Lie == Lies::kAlongK)
        source.load(first + row, k + column, source.rows, values[q]);
      else
        source.load(k + row, first + column, k_end, values[q]);
    }
  }

  __device__ __forceinline__ void put(Real (*tile)[Extent + kPad]) const {
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      const int index = int(threadIdx.x) + q * kGemmThreads, row = index / kQuadsInRow,
                column = index % kQuadsInRow * kQuad;
      if (Lie == Lies::kAlongK) {
#pragma unroll
        for (int i = 0; i < kQuad; ++i) tile[column + i][row] = values[q][i];
      } else {
        store_quad(&tile[row][column], values[q], kQuad, true);
      }
    }
  }
};

struct GemmShape {
  int64_t m, n, k;
  int64_t k_of_split;  // a multiple of a tile's k
};

template <class Real, Lies LieA, Lies LieB, class A, class B, class Epilogue>
__global__ void __launch_bounds__(kGemmThreads) gemm_kernel(GemmShape shape, A a, B b, Epilogue epilogue) {
  CIPS3D_SHARED(Real, tile_a, [kTileK][kTileM + kPad]);
  CIPS3D_SHARED(Real, tile_b, [kTileK][kTileN + kPad]);
  const int64_t m0 = int64_t(blockIdx.x) * kTileM, n0 = int64_t(blockIdx.y) * kTileN;
  const int64_t k0 = int64_t(blockIdx.z) * shape.k_of_split;
  const int64_t k_end = min(shape.k, k0 + shape.k_of_split);
  const int column = int(threadIdx.x) % (kTileN / kThreadN) * kThreadN;
  const int row = int(threadIdx.x) / (kTileN / kThreadN) * kThreadM;

  Real sums[kThreadM][kThreadN] = {};
  TileLoader<Real, kTileM, LieA> next_a;
  TileLoader<Real, kTileN, LieB> next_b;
  if (k0 < k_end) {
    next_a.fetch(a, m0, k0, k_end);
    next_b.fetch(b, n0, k0, k_end);
  }
  for (int64_t k = k0; k < k_end; k += kTileK) {
    next_a.put(tile_a);
    next_b.put(tile_b);
    __syncthreads();
    if (k + kTileK < k_end) {
      next_a.fetch(a, m0, k + kTileK, k_end);
      next_b.fetch(b, n0, k + kTileK, k_end);
    }
#pragma unroll
    for (int kk = 0; kk < kTileK; ++kk) {
      Quad<Real> left[kThreadM / kQuad];
#pragma unroll
      for (int q = 0; q < kThreadM / kQuad; ++q)
        left[q] = *reinterpret_cast<const Quad<Real>*>(&tile_a[kk][row + q * kQuad]);
      const Quad<Real> right = *reinterpret_cast<const Quad<Real>*>(&tile_b[kk][column]);
#pragma unroll
      for (int i = 0; i < kThreadM; ++i)
#pragma unroll
        for (int j = 0; j < kThreadN; ++j) sums[i][j] += left[i / kQuad].element[i % kQuad] * right.element[j];
    }
    __syncthreads();
  }

  const int64_t n = n0 + column;
  const int count = int(min(int64_t(kThreadN), shape.n - n));
#pragma unroll
  for (int i = 0; i < kThreadM; ++i) {
    const bool inside = m0 + row + i < shape.m && count > 0;
    finish_quad<kTileN / kThreadN>(epilogue, inside, blockIdx.z, blockIdx.y, m0 + row + i, n, count, sums[i]);
  }
}

inline GemmShape gemm_shape(int64_t m, int64_t n, int64_t k, int64_t splits, int tile_k) {
  return {m, n, k, ceil_div(ceil_div(std::max<int64_t>(k, 1), splits), tile_k) * tile_k};
}

// epilogue(split, m, n, count, sums[4]) gets elements (m, n ... n + count - 1). K is cut into `splits` parts.
template <class Real, Lies LieA, Lies LieB, class A, class B, class Epilogue>
cudaError_t launch_gemm(int64_t m, int64_t n, int64_t k, int64_t splits, const A& a, const B& b,
                        const Epilogue& epilogue, cudaStream_t stream) {
  if (m == 0 || n == 0) return cudaSuccess;
  const GemmShape shape = gemm_shape(m, n, k, splits, kTileK);
  const dim3 grid(unsigned(ceil_div(m, kTileM)), unsigned(ceil_div(n, kTileN)), unsigned(splits));
  CIPS3D_LAUNCH((gemm_kernel<Real, LieA, LieB, A, B, Epilogue>), grid, dim3(kGemmThreads), 0, stream, shape, a, b,
                epilogue);
  return launch_error();
}

}  // namespace cips3d
