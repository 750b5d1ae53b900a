// Launcher of the sampling kernel.
#include "sample_pdf/sample_pdf_forward.cuh"

namespace cips3d {

constexpr int64_t kSharedBytes = 48 << 10;  // of a block, without opting in to more

static int64_t distribution_bytes(CudaDtype dtype, int64_t weights) {
  return (weights + 1) * int64_t(dtype == CudaDtype::kFloat64 ? sizeof(double) : sizeof(float));
}

int64_t sample_pdf_max_weights(CudaDtype dtype) { return kSharedBytes / distribution_bytes(dtype, 0) - 1; }

cudaError_t launch_sample_pdf(CudaDtype dtype, const void* bins, const void* weights, const void* u, void* depths,
                              const SamplePdfSizes& sizes, const SamplePdfOptions& options, cudaStream_t stream) {
  if (sizes.rays == 0 || sizes.samples == 0) return cudaSuccess;
  const int64_t bytes = distribution_bytes(dtype, sizes.weights);
  const int warps = int(std::min<int64_t>(kSamplePdfMaxWarps, kSharedBytes / bytes));
  CIPS3D_DISPATCH_DTYPE(dtype, T, {
    CIPS3D_LAUNCH((sample_pdf_kernel<T>), grid_size(sizes.rays, warps), warps * kWarpSize, size_t(warps * bytes),
                  stream, static_cast<const T*>(bins), static_cast<const T*>(weights), static_cast<const T*>(u),
                  static_cast<T*>(depths), sizes, options);
  });
  return launch_error();
}

}  // namespace cips3d
