// Sizes of the kernels of cuda_gemm.cuh, cuda_tensor_gemm.cuh and cuda_segment_sum.cuh that the glue knows, too: it
// allocates their working memory.
#pragma once
#include "common/cuda_launch.h"

namespace cips3d {

// How the operands of a matrix product are multiplied: in the computing type, or on tensor cores as 16-bit numbers, one
// or (split) two bfloat16 an operand.
enum class Product : int { kExact, kFloat16, kBFloat16, kSplit };

constexpr int kTileM = 128, kTileN = 64, kTileK = 16;  // of an exact product, see cuda_gemm.cuh
constexpr int kTensorTileM = 128, kTensorTileK = 32;   // on tensor cores, see cuda_tensor_gemm.cuh
constexpr int tensor_tile_n(Product product) { return product == Product::kSplit ? 64 : 128; }

// The products that take float32's range: those of gradients and of numbers with factors of any size.
constexpr Product wide_range(Product product) { return product == Product::kFloat16 ? Product::kSplit : product; }

// The product of a dtype; float32 may be rounded to 16 bits if `reduced_precision`.
inline Product product_of(CudaDtype dtype, bool reduced_precision) {
  if (dtype == CudaDtype::kBFloat16) return Product::kBFloat16;
  if (dtype == CudaDtype::kFloat16) return Product::kFloat16;
  return dtype == CudaDtype::kFloat32 && reduced_precision ? Product::kSplit : Product::kExact;
}

// Tiles that a product's rows and columns fall into.
inline int64_t tiles_of_rows(Product product, int64_t m) {
  return ceil_div(m, product == Product::kExact ? kTileM : kTensorTileM);
}
inline int64_t tiles_of_columns(Product product, int64_t n) {
  return ceil_div(n, product == Product::kExact ? kTileN : tensor_tile_n(product));
}

// Parts of K worth giving to blocks of their own: enough blocks to fill a large GPU, parts long enough to pay for the
// extra pass that adds them up.
inline int64_t gemm_splits(Product product, int64_t m, int64_t n, int64_t k) {
  constexpr int64_t kBlocksWanted = 512, kShortestPart = 512;
  const int64_t tiles = std::max<int64_t>(1, tiles_of_rows(product, m) * tiles_of_columns(product, n));
  return std::max<int64_t>(1, std::min(ceil_div(k, kShortestPart), kBlocksWanted / tiles));
}

// Parts into which a sum over n is cut, and the size of their sums.
inline int64_t segment_sum_parts(int64_t n) {
  constexpr int64_t kPart = 1024, kMostParts = 4096;
  return n <= 2 * kPart ? 1 : std::min(ceil_div(n, kPart), kMostParts);
}
inline int64_t segment_sum_workspace(int64_t groups, int64_t n, int64_t columns) {
  const int64_t parts = segment_sum_parts(n);
  return parts == 1 ? 0 : groups * parts * columns;
}

}  // namespace cips3d
