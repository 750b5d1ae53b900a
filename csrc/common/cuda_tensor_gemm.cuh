// The product of cuda_gemm.cuh on tensor cores: same operands with their transforms, same epilogues.
//
// Computes  sum_k A(m,k) B(k,n) for a tile of (m,n); the epilogue gets the sums, four neighbouring n at a time.
// Axes      M, N, K; A lies in memory as [M,K] or [K,M], B as [K,N] or [N,K]. Octets: 8 neighbours of a memory row.
// Launch    launch_product(): 256 threads a block; grid (tiles of M and N, those of one M side by side; splits of K);
//           dynamic shared memory for three tiles of each operand, at most 86 KB.
// Traffic   A and B as they lie, by cp.async, two tiles ahead of their use. A thread changes the octets that it copied
//           where they arrived: transform, rounding. The sums pass through shared memory to leave in whole rows.
// Numerics  operands rounded once, after their transform: to float16, to bfloat16, or split into two bfloat16 (16 bits,
//           float's range: gradients of 1e-9 keep their digits, which float16 pairs would lose); mma.sync with float
//           sums, k ascending, the small products of a split first. The same bits in every run.
// Limit     64-bit sizes and offsets. Rows that are no multiple of 16 bytes are copied element by element. A split
//           infinity is a NaN. Kernels beyond: float64 and exact float32 products take cuda_gemm.cuh.
#pragma once
#include "common/cuda_device.h"
#include "common/cuda_gemm.cuh"

namespace cips3d {

constexpr int kTensorThreads = 256, kTensorWarps = kTensorThreads / kWarpSize;
constexpr int kTensorStages = 3;                  // tiles of an operand in shared memory: one in use, two on their way
constexpr int kOctet = 8;                         // elements that ldmatrix reads as one row
constexpr int kMmaM = 16, kMmaN = 8, kMmaK = 16;  // of mma.sync
constexpr int kWarpN = 32;                        // columns of one warp

template <class T>
struct alignas(kVectorBytes) Octet {
  T element[kOctet];
};

// 16-bit numbers that stand for one operand.
constexpr int parts_of(Product product) { return product == Product::kSplit ? 2 : 1; }

template <Product P>
__device__ __forceinline__ uint32_t pack_pair(float low, float high) {
  return P == Product::kFloat16 ? pack_float16(low, high) : pack_bfloat16(low, high);
}

template <Product P>
__device__ __forceinline__ void tensor_mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  if constexpr (P == Product::kFloat16)
    mma_float16(d, a, b);
  else
    mma_bfloat16(d, a, b);
}

template <Product P, class T>
constexpr bool kIsProductsNumber =
    (P == Product::kFloat16 && std::is_same_v<T, float16>) || (P == Product::kBFloat16 && std::is_same_v<T, bfloat16>);

// One operand's tile in shared memory: octets in the order of memory, each in a place that holds it as it arrives (8 T)
// and as ldmatrix reads it (8 of each part). The padding spreads the rows that ldmatrix reads over all banks.
template <Product P, class T, class Transform, int Extent, Lies Lie>
struct OctetTile {
  static constexpr int kParts = parts_of(P);
  static constexpr int kRawBytes = kOctet * int(sizeof(T)), kPartBytes = kVectorBytes;
  static constexpr int kPlace = kRawBytes > kParts* kPartBytes ? kRawBytes : kParts * kPartBytes;
  static constexpr int kRows = Lie == Lies::kAlongK ? Extent : kTensorTileK;
  static constexpr int kOctets = (Lie == Lies::kAlongK ? kTensorTileK : Extent) / kOctet;
  static constexpr int kPitch = kOctets * kPlace + kVectorBytes;
  static constexpr int kBytes = kRows * kPitch;
  static constexpr int kOfThread = kRows * kOctets / kTensorThreads;
  static constexpr bool kArrivesReady = kIsProductsNumber<P, T> && std::is_same_v<Transform, Plain>;
  static_assert(kOfThread * kTensorThreads == kRows * kOctets, "the tile divides among the threads");

  using Source = Operand<T, Transform>;
  const Source& source;
  int64_t first;  // along M or N
  int64_t k_end;

  // Calls run(place, memory row, memory column, whether it is inside the matrix) for this thread's octets at k.
  template <class Run>
  __device__ __forceinline__ void for_each_octet(unsigned char* tile, int64_t k, const Run& run) const {
#pragma unroll
    for (int i = 0; i < kOfThread; ++i) {
      const int index = int(threadIdx.x) + i * kTensorThreads, r = index / kOctets, octet = index % kOctets;
      const int64_t row = (Lie == Lies::kAlongK ? first : k) + r;
      const int64_t column = (Lie == Lies::kAlongK ? k : first) + octet * kOctet;
      const bool inside = row < (Lie == Lies::kAlongK ? source.rows : k_end) && column < source.columns;
      run(tile + r * kPitch + octet * kPlace, row, column, inside);
    }
  }

  __device__ __forceinline__ void fetch(unsigned char* tile, int64_t k) const {
    for_each_octet(tile, k, [&](unsigned char* place, int64_t row, int64_t column, bool inside) {
      const T* from = source.data + row * source.columns + column;
      if (inside && source.octets) {
#pragma unroll
        for (int byte = 0; byte < kRawBytes; byte += kVectorBytes)
          cp_async16(place + byte, reinterpret_cast<const unsigned char*>(from) + byte);
      } else {
        T* to = reinterpret_cast<T*>(place);
#pragma unroll 1
        for (int i = 0; i < kOctet; ++i) to[i] = inside && column + i < source.columns ? from[i] : static_cast<T>(0.0f);
        if (kPlace > kRawBytes) *reinterpret_cast<uint4*>(place + kRawBytes) = make_uint4(0, 0, 0, 0);
      }
    });
  }

  // Of octets that this thread fetched and that have arrived; the zeros outside stay.
  __device__ __forceinline__ void convert(unsigned char* tile, int64_t k) const {
    if (kArrivesReady) return;
    for_each_octet(tile, k, [&](unsigned char* place, int64_t row, int64_t column, bool inside) {
      if (!inside) return;
      const Octet<T> raw = *reinterpret_cast<const Octet<T>*>(place);
      float values[kOctet];
#pragma unroll
      for (int i = 0; i < kOctet; ++i) values[i] = static_cast<float>(raw.element[i]);
      source.transform_row(values, row, column);
      uint4* to = reinterpret_cast<uint4*>(place);
      to[0] = pack_octet(values);
      if (kParts == 2) to[kParts - 1] = pack_octet(values);
    });
  }

  // 16x16 block as ldmatrix gives it: registers (extent 0-7, k 0-7), (8-15, 0-7), (0-7, 8-15), (8-15, 8-15).
  static __device__ __forceinline__ void read_block(const unsigned char* tile, int extent, int k, int part,
                                                    uint32_t (&r)[4]) {
    const int lane = int(threadIdx.x) % kWarpSize, along = lane % 8;
    const int e = lane / 8 % 2 * kOctet, kk = lane / 16 * kOctet;
    if constexpr (Lie == Lies::kAlongK)
      ldmatrix_x4<false>(r, tile + (extent + e + along) * kPitch + (k + kk) / kOctet * kPlace + part * kPartBytes);
    else
      ldmatrix_x4<true>(r, tile + (k + kk + along) * kPitch + (extent + e) / kOctet * kPlace + part * kPartBytes);
  }

 private:
  // Rounds; leaves what is lost in `values`, the next part.
  static __device__ __forceinline__ uint4 pack_octet(float (&values)[kOctet]) {
    uint32_t words[kOctet / 2];
#pragma unroll
    for (int i = 0; i < kOctet; i += 2) {
      words[i / 2] = pack_pair<P>(values[i], values[i + 1]);
      if (kParts == 2) {
        const float2 rounded = unpack_bfloat16(words[i / 2]);
        values[i] -= rounded.x;
        values[i + 1] -= rounded.y;
      }
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
  }
};

// One warp's sums: kTilesM x kTilesN of mma's.
template <Product P>
struct TensorSums {
  static constexpr int kParts = parts_of(P);
  static constexpr int kTileN = tensor_tile_n(P), kWarpsN = kTileN / kWarpN, kWarpsM = kTensorWarps / kWarpsN;
  static constexpr int kWarpM = kTensorTileM / kWarpsM, kTilesM = kWarpM / kMmaM, kTilesN = kWarpN / kMmaN;
  static constexpr int kPitch = kTileN + kQuad;  // of the sums in shared memory
  static constexpr size_t kBytes = size_t(kTensorTileM) * kPitch * sizeof(float);

  float sums[kTilesM][kTilesN][4] = {};

  static __device__ __forceinline__ int first_row() { return int(threadIdx.x) / kWarpSize / kWarpsN * kWarpM; }
  static __device__ __forceinline__ int first_column() { return int(threadIdx.x) / kWarpSize % kWarpsN * kWarpN; }

  template <class TileA, class TileB>
  __device__ __forceinline__ void multiply(const unsigned char* tile_a, const unsigned char* tile_b) {
#pragma unroll
    for (int k = 0; k < kTensorTileK; k += kMmaK) {
      uint32_t b[kParts][kTilesN][2];
#pragma unroll
      for (int part = 0; part < kParts; ++part)
#pragma unroll
        for (int n = 0; n < kTilesN; n += 2) {
          uint32_t read[4];
          TileB::read_block(tile_b, first_column() + n * kMmaN, k, part, read);
#pragma unroll
          for (int i = 0; i < 4; ++i) b[part][n + i % 2][i / 2] = read[i];
        }
#pragma unroll
      for (int m = 0; m < kTilesM; ++m) {
        uint32_t a[kParts][4];
#pragma unroll
        for (int part = 0; part < kParts; ++part) TileA::read_block(tile_a, first_row() + m * kMmaM, k, part, a[part]);
#pragma unroll
        for (int n = 0; n < kTilesN; ++n) {
          if (kParts == 2) {
            tensor_mma<P>(sums[m][n], a[kParts - 1], b[0][n]);
            tensor_mma<P>(sums[m][n], a[0], b[kParts - 1][n]);
          }
          tensor_mma<P>(sums[m][n], a[0], b[0][n]);
        }
      }
    }
  }

  __device__ __forceinline__ void put(float* tile) const {
    const int lane = int(threadIdx.x) % kWarpSize;
#pragma unroll
    for (int m = 0; m < kTilesM; ++m)
#pragma unroll
      for (int n = 0; n < kTilesN; ++n)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int row = first_row() + m * kMmaM + half * kOctet + lane / 4;
          const int column = first_column() + n * kMmaN + lane % 4 * 2;
          *reinterpret_cast<float2*>(tile + row * kPitch + column) =
              make_float2(sums[m][n][half * 2], sums[m][n][half * 2 + 1]);
        }
  }
};

template <Product P, Lies LieA, Lies LieB, class A, class B>
struct TensorTiles {
  using Sums = TensorSums<P>;
  using TileA = OctetTile<P, typename A::Element, typename A::Change, kTensorTileM, LieA>;
  using TileB = OctetTile<P, typename B::Element, typename B::Change, Sums::kTileN, LieB>;
  static constexpr int kStageBytes = TileA::kBytes + TileB::kBytes;
  static constexpr size_t kSharedBytes =
      kTensorStages * size_t(kStageBytes) > Sums::kBytes ? kTensorStages * size_t(kStageBytes) : Sums::kBytes;
};

template <Product P, Lies LieA, Lies LieB, class A, class B, class Epilogue>
__global__ void __launch_bounds__(kTensorThreads, 2) tensor_gemm_kernel(GemmShape shape, A a, B b, Epilogue epilogue) {
  using Tiles = TensorTiles<P, LieA, LieB, A, B>;
  using Sums = typename Tiles::Sums;
  using TileA = typename Tiles::TileA;
  using TileB = typename Tiles::TileB;
  CIPS3D_DYNAMIC_SHARED(unsigned char, shared);
  const int64_t tiles_n = (shape.n + Sums::kTileN - 1) / Sums::kTileN;
  const int64_t m0 = blockIdx.x / tiles_n * kTensorTileM, n0 = blockIdx.x % tiles_n * Sums::kTileN;
  const int64_t k0 = int64_t(blockIdx.y) * shape.k_of_split, k_end = min(shape.k, k0 + shape.k_of_split);
  const TileA tile_a{a, m0, k_end};
  const TileB tile_b{b, n0, k_end};

  const auto stage = [&](int slot) { return shared + slot * Tiles::kStageBytes; };
  const auto fetch = [&](int slot, int64_t k) {
    if (k < k_end) {
      tile_a.fetch(stage(slot), k);
      tile_b.fetch(stage(slot) + TileA::kBytes, k);
    }
    cp_async_commit();
  };
  const auto arrive = [&](int slot, int64_t k) {
    cp_async_wait<kTensorStages - 2>();
    if (k < k_end) {
      tile_a.convert(stage(slot), k);
      tile_b.convert(stage(slot) + TileA::kBytes, k);
    }
    __syncthreads();  // everybody sees this tile, and nobody reads the one before it any more
  };

  Sums sums;
#pragma unroll
  for (int slot = 0; slot < kTensorStages - 1; ++slot) fetch(slot, k0 + slot * kTensorTileK);
  arrive(0, k0);
  int slot = 0;
  for (int64_t k = k0; k < k_end; k += kTensorTileK) {
    const int next = slot + 1 == kTensorStages ? 0 : slot + 1, last = slot == 0 ? kTensorStages - 1 : slot - 1;
    fetch(last, k + (kTensorStages - 1) * kTensorTileK);
    sums.template multiply<TileA, TileB>(stage(slot), stage(slot) + TileA::kBytes);
    arrive(next, k + kTensorTileK);
    slot = next;
  }
  cp_async_wait<0>();

  float* tile = reinterpret_cast<float*>(shared);
  sums.put(tile);
  __syncthreads();
  constexpr int kQuadsInRow = Sums::kTileN / kQuad;
  for (int i = int(threadIdx.x); i < kTensorTileM * kQuadsInRow; i += kTensorThreads) {
    const int row = i / kQuadsInRow, column = i % kQuadsInRow * kQuad;
    const int count = int(min(int64_t(kQuad), shape.n - (n0 + column)));
    const Quad<float> quad = *reinterpret_cast<const Quad<float>*>(tile + row * Sums::kPitch + column);
    const bool inside = m0 + row < shape.m && count > 0;
    finish_quad<kQuadsInRow>(epilogue, inside, blockIdx.y, n0 / Sums::kTileN, m0 + row, n0 + column, count,
                             quad.element);
  }
}

// launch_gemm by `P`: on tensor cores, or (kExact) in `Real`.
template <Product P, class Real, Lies LieA, Lies LieB, class A, class B, class Epilogue>
cudaError_t launch_product(int64_t m, int64_t n, int64_t k, int64_t splits, const A& a, const B& b,
                           const Epilogue& epilogue, cudaStream_t stream) {
  if constexpr (P == Product::kExact) {
    return launch_gemm<Real, LieA, LieB>(m, n, k, splits, a, b, epilogue, stream);
  } else {
    if (m == 0 || n == 0) return cudaSuccess;
    constexpr size_t kSharedBytes = TensorTiles<P, LieA, LieB, A, B>::kSharedBytes;
    const GemmShape shape = gemm_shape(m, n, k, splits, kTensorTileK);
    const dim3 grid(unsigned(ceil_div(m, kTensorTileM) * ceil_div(n, tensor_tile_n(P))), unsigned(splits));
    const auto kernel = &tensor_gemm_kernel<P, LieA, LieB, A, B, Epilogue>;
    if (const cudaError_t error = allow_shared_memory(kernel, kSharedBytes)) return error;
    CIPS3D_LAUNCH((tensor_gemm_kernel<P, LieA, LieB, A, B, Epilogue>), grid, dim3(kTensorThreads), kSharedBytes, stream,
                  shape, a, b, epilogue);
    return launch_error();
  }
}

// How one dtype is multiplied.
template <class T, Product P>
struct Arithmetic {
  using Element = T;
  static constexpr Product kProduct = P;
};

// run(Arithmetic) for a dtype. float32 may be rounded to 16 bits if `reduced_precision`.
template <class Run>
cudaError_t with_arithmetic(CudaDtype dtype, bool reduced_precision, const Run& run) {
  switch (dtype) {
    case CudaDtype::kFloat64:
      return run(Arithmetic<double, Product::kExact>{});
    case CudaDtype::kFloat32:
      return reduced_precision ? run(Arithmetic<float, Product::kSplit>{}) : run(Arithmetic<float, Product::kExact>{});
    case CudaDtype::kBFloat16:
      return run(Arithmetic<bfloat16, Product::kBFloat16>{});
    case CudaDtype::kFloat16:
      return run(Arithmetic<float16, Product::kFloat16>{});
  }
  return cudaSuccess;
}

}  // namespace cips3d
