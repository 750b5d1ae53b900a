// Between the glue (torch types, g++) and the kernels (no torch header, nvcc): dtypes, launch sizes, launch errors.
#pragma once
#include <algorithm>
#include <cstdint>

#ifdef CIPS3D_EMULATED
#include "emulator/device_api.h"
#else
#include <cuda_runtime_api.h>
#endif

namespace cips3d {

enum class CudaDtype : int { kFloat64, kFloat32, kBFloat16, kFloat16 };

constexpr int64_t kMaxGridX = 0x7fffffff;  // blocks along x; along y and z
constexpr int64_t kMaxGridYZ = 65535;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Blocks for `tasks` tasks, `per_block` a block at a time. Kernels launched with it loop over what is left (grid
// stride).
inline unsigned grid_size(int64_t tasks, int64_t per_block, int64_t limit = kMaxGridX) {
  return static_cast<unsigned>(std::min(ceil_div(tasks, per_block), limit));
}

// The error of the launch just made, which a later call would report in the wrong place.
inline cudaError_t launch_error() { return cudaGetLastError(); }

}  // namespace cips3d

// Runs `statement` with `type` naming the kernels' element type for a CudaDtype. Only for .cu files.
#define CIPS3D_DISPATCH_DTYPE(dtype, type, ...) \
  switch (dtype) {                              \
    case ::cips3d::CudaDtype::kFloat64: {       \
      using type = double;                      \
      __VA_ARGS__;                              \
      break;                                    \
    }                                           \
    case ::cips3d::CudaDtype::kFloat32: {       \
      using type = float;                       \
      __VA_ARGS__;                              \
      break;                                    \
    }                                           \
    case ::cips3d::CudaDtype::kBFloat16: {      \
      using type = ::cips3d::bfloat16;          \
      __VA_ARGS__;                              \
      break;                                    \
    }                                           \
    case ::cips3d::CudaDtype::kFloat16: {       \
      using type = ::cips3d::float16;           \
      __VA_ARGS__;                              \
      break;                                    \
    }                                           \
  }
