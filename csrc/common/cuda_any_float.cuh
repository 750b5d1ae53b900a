// An array whose element type is known at run time: for kernels that touch it a few times a point and compute in float
// for a long time in between, so that one kernel serves all dtypes.
#pragma once
#include "common/cuda_launch.h"
#include "common/cuda_platform.h"

namespace cips3d {

// float32, bfloat16 or float16; `data` may be null: the array is absent.
struct AnyFloats {
  void* data;
  CudaDtype dtype;

  __device__ __forceinline__ float load(int64_t index) const {
    if (dtype == CudaDtype::kFloat32) return static_cast<const float*>(data)[index];
    if (dtype == CudaDtype::kBFloat16) return static_cast<float>(static_cast<const bfloat16*>(data)[index]);
    return static_cast<float>(static_cast<const float16*>(data)[index]);
  }
  __device__ __forceinline__ void store(int64_t index, float value) const {
    if (dtype == CudaDtype::kFloat32)
      static_cast<float*>(data)[index] = value;
    else if (dtype == CudaDtype::kBFloat16)
      static_cast<bfloat16*>(data)[index] = static_cast<bfloat16>(value);
    else
      static_cast<float16*>(data)[index] = static_cast<float16>(value);
  }
};

inline AnyFloats any_floats(const void* data, CudaDtype dtype) { return {const_cast<void*>(data), dtype}; }

}  // namespace cips3d
