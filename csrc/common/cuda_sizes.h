// How much working memory the kernels of cuda_gemm.cuh and cuda_segment_sum.cuh want: for glue, which allocates it.
#pragma once
#include "common/cuda_launch.h"

namespace cips3d {

constexpr int kTileM = 128, kTileN = 64, kTileK = 16;  // of a matrix product, see cuda_gemm.cuh

// Parts of K worth giving to blocks of their own: enough blocks to fill a large GPU, parts long enough to pay for the
// extra pass that adds them up.
inline int64_t gemm_splits(int64_t m, int64_t n, int64_t k) {
  constexpr int64_t kBlocksWanted = 512, kShortestPart = 512;
  const int64_t tiles = std::max<int64_t>(1, ceil_div(m, kTileM) * ceil_div(n, kTileN));
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
