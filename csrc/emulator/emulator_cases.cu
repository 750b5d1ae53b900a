#include "emulator/emulator_cases.h"

#include "common/cuda_platform.h"

namespace cips3d {

constexpr int kRotateThreads = 64;

template <RotateFault Fault>
__global__ void __launch_bounds__(kRotateThreads) rotate_kernel(const float* in, float* out) {
  CIPS3D_SHARED(float, values, [kRotateThreads]);
  const int thread = int(threadIdx.x), offset = int(blockIdx.x) * kRotateThreads;
  if (Fault == RotateFault::kEnded && thread == 3) return;
  values[thread] = in[offset + thread];
  if (Fault == RotateFault::kDivergent) {
    if (thread < kWarpSize)
      __syncthreads();
    else
      __syncthreads();
  } else if (Fault != RotateFault::kNoBarrier) {
    __syncthreads();
  }
  if (Fault == RotateFault::kOverrun) values[thread + 1] = 0;
  float value = values[(thread + kRotateThreads - 1) % kRotateThreads];
  if (Fault == RotateFault::kMissingLane && thread % kWarpSize != 7) value += __shfl_xor_sync(kFullWarp, 0.0f, 1);
  if (Fault == RotateFault::kTwoPlaces) {
    if (thread % kWarpSize < 16)
      value += __shfl_xor_sync(kFullWarp, 0.0f, 1);
    else
      value += __shfl_xor_sync(kFullWarp, 0.0f, 1);
  }
  if (Fault == RotateFault::kMisaligned) value += load_vector(in + 1).element[0];
  out[offset + thread] = value;
}

template <RotateFault Fault>
static void start_rotate(const float* in, float* out, int64_t blocks, cudaStream_t stream) {
  CIPS3D_LAUNCH((rotate_kernel<Fault>), dim3(unsigned(blocks)), dim3(kRotateThreads), 0, stream, in, out);
}

cudaError_t launch_rotate(RotateFault fault, const float* in, float* out, int64_t blocks, cudaStream_t stream) {
  switch (fault) {
    case RotateFault::kNone:
      start_rotate<RotateFault::kNone>(in, out, blocks, stream);
      break;
    case RotateFault::kNoBarrier:
      start_rotate<RotateFault::kNoBarrier>(in, out, blocks, stream);
      break;
    case RotateFault::kDivergent:
      start_rotate<RotateFault::kDivergent>(in, out, blocks, stream);
      break;
    case RotateFault::kEnded:
      start_rotate<RotateFault::kEnded>(in, out, blocks, stream);
      break;
    case RotateFault::kMissingLane:
      start_rotate<RotateFault::kMissingLane>(in, out, blocks, stream);
      break;
    case RotateFault::kTwoPlaces:
      start_rotate<RotateFault::kTwoPlaces>(in, out, blocks, stream);
      break;
    case RotateFault::kMisaligned:
      start_rotate<RotateFault::kMisaligned>(in, out, blocks, stream);
      break;
    case RotateFault::kOverrun:
      start_rotate<RotateFault::kOverrun>(in, out, blocks, stream);
      break;
  }
  return launch_error();
}

constexpr int kMmaRows = 16, kMmaColumns = 8, kMmaDepth = 16;

template <class T>
__device__ T narrowed(float value) {
  return static_cast<T>(value);
}

// One k8 step in tf32, fragments read element by element.
__device__ inline void tf32_step(float (&sum)[4], const float (*a)[kMmaDepth], const float (*b)[kMmaDepth], int k) {
  const int group = int(threadIdx.x) / 4, in_group = int(threadIdx.x) % 4;
  const uint32_t a_part[4] = {to_tf32(a[group][k + in_group]), to_tf32(a[group + 8][k + in_group]),
                              to_tf32(a[group][k + in_group + 4]), to_tf32(a[group + 8][k + in_group + 4])};
  const uint32_t b_part[2] = {to_tf32(b[group][k + in_group]), to_tf32(b[group][k + in_group + 4])};
  mma_tf32(sum, a_part, b_part);
}

// One k16 step in 16 bits, fragments read by ldmatrix (A as it lies, B once as it lies and once transposed).
template <class T>
__device__ void half_step(float (&sum)[4], const float (*a)[kMmaDepth], const float (*b)[kMmaDepth], bool transposed) {
  CIPS3D_SHARED(T, a_tile, [kMmaRows][kMmaDepth]);
  CIPS3D_SHARED(T, b_tile, [kMmaDepth][kMmaDepth]);  // [n][k], or [k][n] if transposed; the unused half is zero
  const int lane = int(threadIdx.x);
  for (int i = lane; i < kMmaRows * kMmaDepth; i += kWarpSize) {
    const int row = i / kMmaDepth, k = i % kMmaDepth;
    a_tile[row][k] = narrowed<T>(a[row][k]);
    const T element = row < kMmaColumns ? narrowed<T>(b[row][k]) : narrowed<T>(0.0f);
    if (transposed)
      b_tile[k][row] = element;
    else
      b_tile[row][k] = element;
  }
  __syncwarp();
  uint32_t a_part[4], b_parts[4];
  ldmatrix_x4<false>(a_part, &a_tile[lane % 16][lane / 16 * 8]);
  const int row = lane % 8, first = lane / 8 % 2 * 8, second = lane / 16 * 8;
  if (transposed)
    ldmatrix_x4<true>(b_parts, &b_tile[first + row][second]);
  else
    ldmatrix_x4<false>(b_parts, &b_tile[second + row][first]);
  const uint32_t b_part[2] = {b_parts[0], b_parts[1]};
  if constexpr (sizeof(T) == sizeof(bfloat16) && std::is_same<T, bfloat16>::value)
    mma_bfloat16(sum, a_part, b_part);
  else
    mma_float16(sum, a_part, b_part);
}

template <MmaKind Kind, bool Wait>
__global__ void __launch_bounds__(kWarpSize) mma_product_kernel(const float* a, const float* b, float* d) {
  CIPS3D_DYNAMIC_SHARED(float, buffer);
  auto a_tile = reinterpret_cast<float (*)[kMmaDepth]>(buffer);
  auto b_tile = a_tile + kMmaRows;
  const int lane = int(threadIdx.x);
  constexpr int kFloats = kVector<float>;
  for (int i = lane; i < kMmaRows * kMmaDepth / kFloats; i += kWarpSize)
    cp_async16(buffer + i * kFloats, a + i * kFloats);
  cp_async_commit();
  for (int i = lane; i < kMmaColumns * kMmaDepth / kFloats; i += kWarpSize)
    cp_async16(&b_tile[0][0] + i * kFloats, b + i * kFloats);
  cp_async_commit();
  if (Wait) cp_async_wait<0>();
  __syncwarp();
  float sum[4] = {};
  if constexpr (Kind == MmaKind::kTf32) {
    for (int k = 0; k < kMmaDepth; k += 8) tf32_step(sum, a_tile, b_tile, k);
  } else {
    using T = std::conditional_t<Kind == MmaKind::kFloat16, float16, bfloat16>;
    float again[4] = {};
    half_step<T>(sum, a_tile, b_tile, false);
    __syncwarp();
    half_step<T>(again, a_tile, b_tile, true);
    for (int i = 0; i < 4; ++i) sum[i] = (sum[i] + again[i]) / 2;
  }
  if (!Wait) cp_async_wait<0>();  // too late
  for (int i = 0; i < 4; ++i) d[(lane / 4 + 8 * (i / 2)) * kMmaColumns + 2 * (lane % 4) + i % 2] = sum[i];
}

template <MmaKind Kind>
static void start_mma_product(bool wait, const float* a, const float* b, float* d, cudaStream_t stream) {
  constexpr size_t kBytes = (kMmaRows + kMmaColumns) * kMmaDepth * sizeof(float);
  if (wait)
    CIPS3D_LAUNCH((mma_product_kernel<Kind, true>), dim3(1), dim3(kWarpSize), kBytes, stream, a, b, d);
  else
    CIPS3D_LAUNCH((mma_product_kernel<Kind, false>), dim3(1), dim3(kWarpSize), kBytes, stream, a, b, d);
}

cudaError_t launch_mma_product(MmaKind kind, bool wait_for_copies, const float* a, const float* b, float* d,
                               cudaStream_t stream) {
  switch (kind) {
    case MmaKind::kTf32:
      start_mma_product<MmaKind::kTf32>(wait_for_copies, a, b, d, stream);
      break;
    case MmaKind::kFloat16:
      start_mma_product<MmaKind::kFloat16>(wait_for_copies, a, b, d, stream);
      break;
    case MmaKind::kBFloat16:
      start_mma_product<MmaKind::kBFloat16>(wait_for_copies, a, b, d, stream);
      break;
  }
  return launch_error();
}

__global__ void __launch_bounds__(kWarpSize) warp_sums_kernel(const float* in, float* sums, float* prefix) {
  const int lane = int(threadIdx.x), i = int(blockIdx.x) * kWarpSize + lane;
  const float sum = warp_sum(in[i]);
  float running = in[i];
  for (int distance = 1; distance < kWarpSize; distance *= 2) {
    const float before = __shfl_up_sync(kFullWarp, running, unsigned(distance));
    if (lane >= distance) running += before;
  }
  prefix[i] = running;
  if (lane == 0) sums[blockIdx.x] = sum;
}

cudaError_t launch_warp_sums(const float* in, float* sums, float* prefix, int64_t warps, cudaStream_t stream) {
  CIPS3D_LAUNCH(warp_sums_kernel, dim3(unsigned(warps)), dim3(kWarpSize), 0, stream, in, sums, prefix);
  return launch_error();
}

}  // namespace cips3d
