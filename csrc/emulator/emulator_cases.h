// Small kernels that try the emulator itself: what it must compute, and the mistakes it must find. See
// emulator_cases.cu.
#pragma once
#include <cstdint>

#include "common/cuda_launch.h"

namespace cips3d {

// out[i] = in[i - 1] within each block of 64 (circular). fault: none, no_barrier, divergent, ended, missing_lane,
// two_places, misaligned, overrun.
enum class RotateFault : int {
  kNone,
  kNoBarrier,
  kDivergent,
  kEnded,
  kMissingLane,
  kTwoPlaces,
  kMisaligned,
  kOverrun,
};
cudaError_t launch_rotate(RotateFault fault, const float* in, float* out, int64_t blocks, cudaStream_t stream);

// d [16,8] = a [16,16] b [8,16]^T by mma.sync, operands rounded to tf32, float16 or bfloat16; a and b come in by
// cp.async.
enum class MmaKind : int { kTf32, kFloat16, kBFloat16 };
cudaError_t launch_mma_product(MmaKind kind, bool wait_for_copies, const float* a, const float* b, float* d,
                               cudaStream_t stream);

// Sums of each warp's 32 values, and each value's inclusive prefix sum in its warp.
cudaError_t launch_warp_sums(const float* in, float* sums, float* prefix, int64_t warps, cudaStream_t stream);

}  // namespace cips3d
