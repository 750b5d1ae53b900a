// Moves of features between two sets of samples and their merge.
//
// Computes  gather: merged[p,k] = both[p, order[p,k]] with both = cat(a, b); scatter, its transpose:
//           both[p, order[p,k]] = merged[p,k]
// Axes      P rays, Sa and Sb samples, S = Sa + Sb, C features; order [P,S] holds a permutation of 0 .. S - 1 for every
//           ray
// Launch    up to 32 lanes (a power of 2) a row of features, all rows in a grid-stride loop
// Traffic   every row and `order` once; a lane moves a Word: 16 bytes where rows are aligned, else less
// Numerics  bits are moved unread
// Limit     memory bandwidth
#pragma once
#include "common/cuda_platform.h"
#include "merge_samples/merge_samples_cuda.h"

namespace cips3d {

constexpr int kMoveThreads = 256;

// `row_words` words a row, `lanes` lanes each.
template <class Word, bool kGather>
__global__ void __launch_bounds__(kMoveThreads)
    move_samples_kernel(Word* merged, const int64_t* order, Word* a, Word* b, const MergeSamplesSizes sizes,
                        int64_t row_words, int lanes) {
  const int64_t samples = sizes.count_a + sizes.count_b, rows_at_once = int64_t(gridDim.x) * (kMoveThreads / lanes);
  const int64_t first_row = int64_t(blockIdx.x) * (kMoveThreads / lanes) + threadIdx.x / lanes;
  for (int64_t row = first_row; row < sizes.rays * samples; row += rows_at_once) {
    const int64_t ray = row / samples, source = order[row];
    Word* apart = source < sizes.count_a ? a + (ray * sizes.count_a + source) * row_words
                                         : b + (ray * sizes.count_b + source - sizes.count_a) * row_words;
    Word* joined = merged + row * row_words;
    for (int64_t word = threadIdx.x % lanes; word < row_words; word += lanes) {
      if (kGather)
        joined[word] = apart[word];
      else
        apart[word] = joined[word];
    }
  }
}

}  // namespace cips3d
