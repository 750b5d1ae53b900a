// What crosses the line between the torch glue (merge_samples_cuda.cpp) and the kernels (merge_samples_cuda.cu).
#pragma once
#include "common/cuda_launch.h"
#include "common/merge_samples_math.h"

namespace cips3d {

// z_a [P,Sa], z_b [P,Sb] -> z, order [P,Sa+Sb], contiguous.
cudaError_t launch_merge_samples(CudaDtype dtype, const void* z_a, const void* z_b, void* z, int64_t* order,
                                 const MergeSamplesSizes& sizes, cudaStream_t stream);

// merged[p,k] = cat(a, b)[p, order[p,k]]; features of element_bytes (2, 4 or 8) each are moved unread.
cudaError_t launch_merge_samples_gather(const void* a, const void* b, const int64_t* order, void* merged,
                                        int64_t element_bytes, const MergeSamplesSizes& sizes, cudaStream_t stream);

// cat(a, b)[p, order[p,k]] = merged[p,k].
cudaError_t launch_merge_samples_scatter(const void* merged, const int64_t* order, void* a, void* b,
                                         int64_t element_bytes, const MergeSamplesSizes& sizes, cudaStream_t stream);

}  // namespace cips3d
