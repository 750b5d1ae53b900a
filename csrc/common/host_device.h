// Functions of <op>_math.h: one text for the CPU kernels, the CUDA kernels and the emulator.
// Always inlined on the host: the CPU kernels are compiled once per SIMD level, and an out-of-line copy compiled for
// AVX-512 must never be the one that the linker keeps for all.
#pragma once

#ifdef __CUDACC__
#define CIPS3D_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define CIPS3D_HOST_DEVICE inline __attribute__((always_inline))
#endif
