// The part of CUDA's language and library that this project's kernels use, as plain C++ on the emulator. What is not
// here (atomics above all: they make sums depend on the order) the kernels do without.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "emulator/half.h"
#include "emulator/simt.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __restrict__ __restrict

#define threadIdx ::cips3d::simt::thread_index
#define blockIdx ::cips3d::simt::block_index
#define blockDim ::cips3d::simt::block_dim
#define gridDim ::cips3d::simt::grid_dim

using dim3 = cips3d::simt::Dim3;
using cudaStream_t = void*;
using cudaError_t = int;
enum { cudaSuccess = 0 };
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return "no error"; }

using std::max;
using std::min;

// clang-format off
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
// clang-format on
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

template <class T>
T __ldg(const T* pointer) {
  return *pointer;
}
inline uint32_t __float_as_uint(float value) { return cips3d::simt::float_bits(value); }
inline float __uint_as_float(uint32_t bits) { return cips3d::simt::bits_float(bits); }
inline float __sinf(float x) { return std::sin(x); }
inline float __cosf(float x) { return std::cos(x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits == 0 ? 32 : __builtin_clz(unsigned(bits)); }

// ---- barriers and warp collectives; the last argument is the caller's place, for messages
// ----------------------------
using cips3d::simt::Where;

constexpr unsigned kEveryLane = 0xffffffffu;

inline void __syncthreads(Where where = Where::here()) { cips3d::simt::block_barrier(where); }

inline void __syncwarp(unsigned mask = kEveryLane, Where where = Where::here()) {
  cips3d::simt::warp_meet(mask, mask, where);
}

namespace cips3d::simt {

// Value of lane `source`, or one's own where CUDA says so (outside the segment) or leaves it undefined (outside the
// mask).
template <class T>
T shuffle(unsigned mask, T value, int source, bool in_segment, Where where) {
  const LaneValues values = warp_meet(mask, value, where);
  if (!in_segment) return value;
  if (!(mask >> source & 1)) fail("shuffle reads lane " + std::to_string(source) + " outside its mask", where);
  return values.of<T>(unsigned(source));
}

}  // namespace cips3d::simt

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, Where where = Where::here()) {
  const int segment = int(cips3d::simt::lane_index()) / width * width;
  return cips3d::simt::shuffle(mask, value, segment + (source & (width - 1)), true, where);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, Where where = Where::here()) {
  const int lane = int(cips3d::simt::lane_index()), source = lane ^ lanes;
  return cips3d::simt::shuffle(mask, value, source, source / width <= lane / width, where);
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, Where where = Where::here()) {
  const int lane = int(cips3d::simt::lane_index()), source = lane - int(delta);
  return cips3d::simt::shuffle(mask, value, source, source >= lane / width * width, where);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, Where where = Where::here()) {
  const int lane = int(cips3d::simt::lane_index()), source = lane + int(delta);
  return cips3d::simt::shuffle(mask, value, source, source < (lane / width + 1) * width, where);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, Where where = Where::here()) {
  const auto values = cips3d::simt::warp_meet(mask, predicate, where);
  unsigned ballot = 0;
  for (unsigned lane = 0; lane < cips3d::simt::kWarpLanes; ++lane)
    if ((mask >> lane & 1) && values.of<int>(lane)) ballot |= 1u << lane;
  return ballot;
}

inline int __any_sync(unsigned mask, int predicate, Where where = Where::here()) {
  return __ballot_sync(mask, predicate, where) != 0;
}

inline int __all_sync(unsigned mask, int predicate, Where where = Where::here()) {
  return __ballot_sync(mask, predicate, where) == mask;
}
