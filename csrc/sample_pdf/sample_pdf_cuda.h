// What crosses the line between the torch glue (sample_pdf_cuda.cpp) and the kernel (sample_pdf_cuda.cu).
#pragma once
#include "common/cuda_launch.h"
#include "common/sample_pdf_math.h"

namespace cips3d {

// Weights a ray for which the cumulative distribution fits a block's shared memory.
int64_t sample_pdf_max_weights(CudaDtype dtype);

// bins [P,K], weights [P,W], u [P,n] -> depths [P,n], contiguous.
cudaError_t launch_sample_pdf(CudaDtype dtype, const void* bins, const void* weights, const void* u, void* depths,
                              const SamplePdfSizes& sizes, const SamplePdfOptions& options, cudaStream_t stream);

}  // namespace cips3d
