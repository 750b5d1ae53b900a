// Launchers of the merging kernels.
#include "merge_samples/merge_samples_move.cuh"
#include "merge_samples/merge_samples_sort.cuh"

namespace cips3d {

cudaError_t launch_merge_samples(CudaDtype dtype, const void* z_a, const void* z_b, void* z, int64_t* order,
                                 const MergeSamplesSizes& sizes, cudaStream_t stream) {
  if (sizes.rays * (sizes.count_a + sizes.count_b) == 0) return cudaSuccess;
  CIPS3D_DISPATCH_DTYPE(dtype, T, {
    CIPS3D_LAUNCH((merge_samples_kernel<T>), grid_size(sizes.rays, kMergeWarps), kMergeThreads, 0, stream,
                  static_cast<const T*>(z_a), static_cast<const T*>(z_b), static_cast<T*>(z), order, sizes);
  });
  return launch_error();
}

template <class Word, bool kGather>
static void launch_move(void* merged, const int64_t* order, void* a, void* b, int64_t row_bytes,
                        const MergeSamplesSizes& sizes, cudaStream_t stream) {
  const int64_t row_words = row_bytes / int64_t{sizeof(Word)};
  int lanes = 1;
  while (lanes < kWarpSize && lanes < row_words) lanes *= 2;
  const int64_t rows = sizes.rays * (sizes.count_a + sizes.count_b);
  CIPS3D_LAUNCH((move_samples_kernel<Word, kGather>), grid_size(rows, kMoveThreads / lanes), kMoveThreads, 0, stream,
                static_cast<Word*>(merged), order, static_cast<Word*>(a), static_cast<Word*>(b), sizes, row_words,
                lanes);
}

// By the widest word that rows and addresses are multiples of, down to one element.
template <bool kGather>
static cudaError_t launch_move_any(void* merged, const int64_t* order, void* a, void* b, int64_t element_bytes,
                                   const MergeSamplesSizes& sizes, cudaStream_t stream) {
  const int64_t row_bytes = sizes.channels * element_bytes;
  if (sizes.rays * (sizes.count_a + sizes.count_b) * row_bytes == 0) return cudaSuccess;
  const uintptr_t bits = reinterpret_cast<uintptr_t>(merged) | reinterpret_cast<uintptr_t>(a) |
                         reinterpret_cast<uintptr_t>(b) | uintptr_t(row_bytes);
  if (bits % sizeof(uint4) == 0)
    launch_move<uint4, kGather>(merged, order, a, b, row_bytes, sizes, stream);
  else if (bits % sizeof(uint64_t) == 0)
    launch_move<uint64_t, kGather>(merged, order, a, b, row_bytes, sizes, stream);
  else if (bits % sizeof(uint32_t) == 0)
    launch_move<uint32_t, kGather>(merged, order, a, b, row_bytes, sizes, stream);
  else
    launch_move<uint16_t, kGather>(merged, order, a, b, row_bytes, sizes, stream);
  return launch_error();
}

// The kernel only reads what a gather gives as const.
cudaError_t launch_merge_samples_gather(const void* a, const void* b, const int64_t* order, void* merged,
                                        int64_t element_bytes, const MergeSamplesSizes& sizes, cudaStream_t stream) {
  return launch_move_any<true>(merged, order, const_cast<void*>(a), const_cast<void*>(b), element_bytes, sizes, stream);
}

cudaError_t launch_merge_samples_scatter(const void* merged, const int64_t* order, void* a, void* b,
                                         int64_t element_bytes, const MergeSamplesSizes& sizes, cudaStream_t stream) {
  return launch_move_any<false>(const_cast<void*>(merged), order, a, b, element_bytes, sizes, stream);
}

}  // namespace cips3d
