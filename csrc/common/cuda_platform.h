// The one include of every kernel file. It gives the same names twice: by nvcc for a GPU, or (CIPS3D_EMULATED) as plain
// C++ for the CPU emulator in csrc/emulator, so that the same kernel sources run in the tests of a machine without a
// GPU.
//
//   CIPS3D_LAUNCH((kernel<A, B>), grid, block, dynamic_shared_bytes, stream, arguments...)   then launch_error()
//   CIPS3D_SHARED(float, tile, [64][36]);        __shared__ float tile[64][36]
//   CIPS3D_DYNAMIC_SHARED(float, buffer);        extern __shared__ float buffer[]
//
// Kernels use no atomics (results must not depend on the order) and blocks of whole warps.
#pragma once

#ifdef CIPS3D_EMULATED
#include "emulator/device_api.h"
#include "emulator/tensor_core.h"
#define CIPS3D_EMULATOR_WHERE , ::cips3d::simt::Where where = ::cips3d::simt::Where::here()
#define CIPS3D_LAUNCH(kernel, grid, block, dynamic_shared_bytes, stream, ...) \
  ((void)(stream), ::cips3d::simt::launch(grid, block, dynamic_shared_bytes, [&] { kernel(__VA_ARGS__); }))
#define CIPS3D_SHARED(type, name, extents) \
  using name##_array = type extents;       \
  static const char name##_key = 0;        \
  auto& name = *static_cast<name##_array*>(::cips3d::simt::static_shared(&name##_key, sizeof(name##_array)))
#define CIPS3D_DYNAMIC_SHARED(type, name) type* name = static_cast<type*>(::cips3d::simt::dynamic_shared())
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#define CIPS3D_EMULATOR_WHERE
#define CIPS3D_LAUNCH(kernel, grid, block, dynamic_shared_bytes, stream, ...) \
  kernel<<<grid, block, dynamic_shared_bytes, stream>>>(__VA_ARGS__)
#define CIPS3D_SHARED(type, name, extents) __shared__ __align__(16) type name extents
#define CIPS3D_DYNAMIC_SHARED(type, name)                     \
  extern __shared__ __align__(16) unsigned char name##_raw[]; \
  type* name = reinterpret_cast<type*>(name##_raw)
#endif

namespace cips3d {

using float16 = __half;
using bfloat16 = __nv_bfloat16;

constexpr int kWarpSize = 32;
constexpr unsigned kFullWarp = 0xffffffffu;
constexpr int kVectorBytes = 16;  // the widest load and store of one thread

// What a dtype is computed in: double in double, everything else in float.
template <class T>
struct ComputeType {
  using type = float;
};
template <>
struct ComputeType<double> {
  using type = double;
};
template <class T>
using Compute = typename ComputeType<T>::type;

// ---- 16-byte access: kVector<T> neighbouring elements in one instruction
// ----------------------------------------------

template <class T>
constexpr int kVector = kVectorBytes / int(sizeof(T));

template <class T>
struct alignas(kVectorBytes) Vector {
  T element[kVector<T>];
};

// Whether rows of `row_elements` elements starting at `pointer` can be read and written by whole vectors (host side).
template <class T>
inline bool vector_aligned(const T* pointer, int64_t row_elements) {
  return reinterpret_cast<uintptr_t>(pointer) % kVectorBytes == 0 && row_elements % kVector<T> == 0;
}

template <class T>
__device__ __forceinline__ Vector<T> load_vector(const T* pointer CIPS3D_EMULATOR_WHERE) {
#ifdef CIPS3D_EMULATED
  simt::require_aligned(pointer, kVectorBytes, where);
#endif
  return *reinterpret_cast<const Vector<T>*>(pointer);
}

template <class T>
__device__ __forceinline__ void store_vector(T* pointer, const Vector<T>& value CIPS3D_EMULATOR_WHERE) {
#ifdef CIPS3D_EMULATED
  simt::require_aligned(pointer, kVectorBytes, where);
#endif
  *reinterpret_cast<Vector<T>*>(pointer) = value;
}

// ---- warp sums ------------------------------------------------------------------------------------------------------

// Sum over the warp's lanes, the same bits in every lane.
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int lanes = kWarpSize / 2; lanes > 0; lanes /= 2) value += __shfl_xor_sync(kFullWarp, value, lanes);
  return value;
}

// ---- registers ------------------------------------------------------------------------------------------------------

// The same pointer, of unknown origin to the compiler: what is computed from it is computed where it is used, instead
// of kept in registers from the last time on.
template <class T>
__device__ __forceinline__ T* computed_anew(T* pointer) {
#ifndef CIPS3D_EMULATED
  asm volatile("" : "+l"(pointer));
#endif
  return pointer;
}

// ---- cp.async: global to shared memory without registers
// ----------------------------------------------------------------

// 16 bytes; both addresses are multiples of 16.
__device__ __forceinline__ void cp_async16(void* shared, const void* global CIPS3D_EMULATOR_WHERE) {
#ifdef CIPS3D_EMULATED
  simt::async_copy(shared, global, kVectorBytes, where);
#else
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(global) : "memory");
#endif
}

__device__ __forceinline__ void cp_async_commit() {
#ifdef CIPS3D_EMULATED
  simt::async_commit();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most GroupsLeft of this thread's committed groups are under way. A barrier must follow for other
// threads.
template <int GroupsLeft>
__device__ __forceinline__ void cp_async_wait() {
#ifdef CIPS3D_EMULATED
  simt::async_wait(GroupsLeft);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(GroupsLeft) : "memory");
#endif
}

// ---- tensor cores: d[16x8] += a[16xK] b[Kx8], one warp
// -------------------------------------------------------------------- With g = lane / 4, t = lane % 4:  c0 (g,2t)  c1
// (g,2t+1)  c2 (g+8,2t)  c3 (g+8,2t+1)
//   tf32 (K = 8)     a0 (g,t)  a1 (g+8,t)  a2 (g,t+4)  a3 (g+8,t+4)        b0 (t,g)  b1 (t+4,g)
//   16 bit (K = 16)  a0 (g,2t..2t+1)  a1 (g+8,..)  a2 (g,2t+8..)  a3 (g+8,2t+8..)      b0 (2t..2t+1,g)  b1 (2t+8..,g)

// Rounds to the 10 fraction bits that tensor cores read, to nearest, ties away from zero.
__device__ __forceinline__ uint32_t to_tf32(float x) {
#ifdef CIPS3D_EMULATED
  const uint32_t bits = __float_as_uint(x);
  return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & 0xffffe000u;
#else
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
#endif
}

#define CIPS3D_MMA(shape_and_types)                                                                      \
  asm volatile("mma.sync.aligned." shape_and_types " {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};" \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                          \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

__device__ __forceinline__ void mma_tf32(float (&d)[4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[2] CIPS3D_EMULATOR_WHERE) {
#ifdef CIPS3D_EMULATED
  simt::mma_m16n8k8_tf32(d, a, b, where);
#else
  CIPS3D_MMA("m16n8k8.row.col.f32.tf32.tf32.f32");
#endif
}

__device__ __forceinline__ void mma_float16(float (&d)[4], const uint32_t (&a)[4],
                                            const uint32_t (&b)[2] CIPS3D_EMULATOR_WHERE) {
#ifdef CIPS3D_EMULATED
  simt::mma_m16n8k16<float16>(d, a, b, where);
#else
  CIPS3D_MMA("m16n8k16.row.col.f32.f16.f16.f32");
#endif
}

__device__ __forceinline__ void mma_bfloat16(float (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2] CIPS3D_EMULATOR_WHERE) {
#ifdef CIPS3D_EMULATED
  simt::mma_m16n8k16<bfloat16>(d, a, b, where);
#else
  CIPS3D_MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
#endif
}
#undef CIPS3D_MMA

// Two numbers rounded to float16 in one register, the first in its low half; and back.
__device__ __forceinline__ uint32_t pack_float16(float low, float high) {
#ifdef CIPS3D_EMULATED
  return uint32_t{simt::to_half_bits(low)} | uint32_t{simt::to_half_bits(high)} << 16;
#else
  uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#endif
}

__device__ __forceinline__ float2 unpack_float16(uint32_t pair) {
#ifdef CIPS3D_EMULATED
  return make_float2(simt::from_half_bits(uint16_t(pair)), simt::from_half_bits(uint16_t(pair >> 16)));
#else
  return __half22float2(*reinterpret_cast<const __half2*>(&pair));
#endif
}

// The same for bfloat16.
__device__ __forceinline__ uint32_t pack_bfloat16(float low, float high) {
#ifdef CIPS3D_EMULATED
  return uint32_t{simt::to_bfloat16_bits(low)} | uint32_t{simt::to_bfloat16_bits(high)} << 16;
#else
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#endif
}

__device__ __forceinline__ float2 unpack_bfloat16(uint32_t pair) {
  return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}

// Four 8x8 matrices of 16-bit numbers from shared memory: lane l gives the address of row l % 8 of matrix l / 8, and
// gets elements (g, 2t..2t+1) of each, or of their transposes.
template <bool Transposed>
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row CIPS3D_EMULATOR_WHERE) {
#ifdef CIPS3D_EMULATED
  simt::ldmatrix_x4(r, row, Transposed, where);
#else
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (Transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
#endif
}

}  // namespace cips3d
