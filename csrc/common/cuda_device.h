// What the current device can hold, for launchers that choose a kernel's variant by it.
#pragma once
#include "common/cuda_launch.h"
#include "common/cuda_platform.h"

namespace cips3d {

struct DeviceLimits {
  int multiprocessors;
  int shared_bytes;  // of one block, with allow_shared_memory
};

inline cudaError_t device_limits(DeviceLimits* limits) {
#ifdef CIPS3D_EMULATED
  *limits = {simt::kMultiprocessors, int(simt::kMaxDynamicShared)};
  return cudaSuccess;
#else
  int device = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (!error) error = cudaDeviceGetAttribute(&limits->multiprocessors, cudaDevAttrMultiProcessorCount, device);
  if (!error) error = cudaDeviceGetAttribute(&limits->shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  return error;
#endif
}

// Lets blocks of `kernel` have more than 48 KB of dynamic shared memory.
template <class Kernel>
cudaError_t allow_shared_memory(Kernel* kernel, size_t bytes) {
#ifdef CIPS3D_EMULATED
  (void)kernel, (void)bytes;
  return cudaSuccess;
#else
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes));
#endif
}

// And says how many of them a multiprocessor runs at once.
template <class Kernel>
cudaError_t allow_shared_memory(Kernel* kernel, int threads, size_t bytes, int* blocks) {
  if (const cudaError_t error = allow_shared_memory(kernel, bytes)) return error;
#ifdef CIPS3D_EMULATED
  (void)threads;
  *blocks = 1;
  return cudaSuccess;
#else
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, kernel, threads, bytes);
#endif
}

}  // namespace cips3d
