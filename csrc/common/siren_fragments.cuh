// What one warp of a SIREN kernel holds in registers: the activations of Tiles x 16 points as A fragments of mma.sync.
//
// The accumulators of 16 output channels (two n tiles of m16n8k16) have the layout of the A fragment of 16 input
// channels, so a layer's result is the next layer's operand without leaving the registers. With g = lane / 4,
// t = lane % 4 a lane holds rows g and g + 8 of each tile, and channels 2t, 2t+1, 2t+8, 2t+9 of each chunk.
#pragma once
#include "common/cuda_platform.h"
#include "common/siren_plan.h"

namespace cips3d {

// Accumulators of one chunk: [tile][n tile][row half * 2 + channel].
template <int Tiles>
using SirenSums = float[Tiles][2][4];

// sin and cos: with one part the argument has an error above that of the fast instruction; with two the argument is
// reduced to [-pi, pi] first (Cody-Waite), where the instruction is good to 4e-7.
template <int Parts>
__device__ __forceinline__ float siren_reduce(float x) {
  if (Parts == 1) return x;
  constexpr float kTurnsPerRadian = 0.15915494309189535f, kRoundToInteger = 12582912.0f;  // 1.5 * 2^23
  constexpr float kTurnHigh = 6.28125f, kTurnLow = 1.93530716e-3f;                        // 2 pi; the first has 8 bits
  const float turns = fmaf(x, kTurnsPerRadian, kRoundToInteger) - kRoundToInteger;
  return fmaf(-turns, kTurnLow, fmaf(-turns, kTurnHigh, x));
}
template <int Parts>
__device__ __forceinline__ float siren_sine(float x) {
  return __sinf(siren_reduce<Parts>(x));
}
template <int Parts>
__device__ __forceinline__ float siren_cosine(float x) {
  return __cosf(siren_reduce<Parts>(x));
}

// One chunk of one tile as an A fragment; with two parts value = first + second.
template <int Parts>
__device__ __forceinline__ void to_fragment(uint32_t (&fragment)[Parts][4], const float (&values)[2][4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float low = values[i / 2][i % 2 * 2], high = values[i / 2][i % 2 * 2 + 1];
    fragment[0][i] = pack_float16(low, high);
    if (Parts == 2) {
      const float2 rounded = unpack_float16(fragment[0][i]);
      fragment[Parts - 1][i] = pack_float16(low - rounded.x, high - rounded.y);
    }
  }
}

template <int Width, int Tiles, int Parts>
struct SirenActivations {
  static constexpr int kChunks = Width / kSirenChunk;
  uint32_t fragment[kChunks][Tiles][Parts][4];

  __device__ __forceinline__ void clear(int chunk) {
#pragma unroll
    for (int m = 0; m < Tiles; ++m)
#pragma unroll
      for (int part = 0; part < Parts; ++part)
#pragma unroll
        for (int i = 0; i < 4; ++i) fragment[chunk][m][part][i] = 0;
  }
  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) clear(chunk);
  }
};

// Where a layer's results wait until all of them are there: in registers beside the operand ...
template <int Width, int Tiles, int Parts>
struct SirenNextInRegisters {
  static constexpr int kUnroll = Width / kSirenChunk;  // registers have no index
  SirenActivations<Width, Tiles, Parts> values;

  __device__ __forceinline__ void set(int, int chunk, const SirenSums<Tiles>& sums) {
#pragma unroll
    for (int m = 0; m < Tiles; ++m) to_fragment<Parts>(values.fragment[chunk][m], sums[m]);
  }
  __device__ __forceinline__ void take(SirenActivations<Width, Tiles, Parts>& in, int chunks) const {
    in = values;
#pragma unroll
    for (int c = 0; c < Width / kSirenChunk; ++c)
      if (c >= chunks) in.clear(c);
  }
};

// A fragment as four 8x8 matrices in shared memory, for ldmatrix by any warp.
template <int Parts>
__device__ __forceinline__ void store_matrices(unsigned char* tile, const uint32_t (&fragment)[Parts][4]) {
  uint32_t* to = reinterpret_cast<uint32_t*>(tile) + threadIdx.x % kWarpSize;
#pragma unroll
  for (int part = 0; part < Parts; ++part)
#pragma unroll
    for (int i = 0; i < 4; ++i) to[part * (kSirenBlockBytes / 4) + i * kWarpSize] = fragment[part][i];
}

// ... or in shared memory, where they are 8x8 matrices: half the registers.
template <int Width, int Parts>
struct SirenNextInShared {
  static constexpr int kUnroll = 2;  // the sines of one chunk run beside the products of another
  unsigned char* tiles;              // of this warp
  int stride;                        // bytes from one chunk to the next

  __device__ __forceinline__ void set(int, int chunk, const SirenSums<1>& sums) const {
    uint32_t fragment[Parts][4];
    to_fragment<Parts>(fragment, sums[0]);
    store_matrices(tiles + chunk * stride, fragment);
  }
  __device__ __forceinline__ void take(SirenActivations<Width, 1, Parts>& in, int chunks) const {
    __syncwarp();
#pragma unroll
    for (int c = 0; c < Width / kSirenChunk; ++c) {
      if (c >= chunks) {
        in.clear(c);
        continue;
      }
#pragma unroll
      for (int part = 0; part < Parts; ++part)
        ldmatrix_x4<false>(in.fragment[c][0][part],
                           tiles + c * stride + part * kSirenBlockBytes + threadIdx.x % kWarpSize * kVectorBytes);
    }
    __syncwarp();
  }
};

// sums += a b for 16 inputs and 16 outputs. b holds two n tiles for each part. The small products come first.
template <int Tiles, int Parts>
__device__ __forceinline__ void multiply_block(SirenSums<Tiles>& sums, const uint32_t (&a)[Tiles][Parts][4],
                                               const uint32_t (&b)[Parts][2][2]) {
#pragma unroll
  for (int m = 0; m < Tiles; ++m)
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      if (Parts == 2) {
        mma_float16(sums[m][n], a[m][Parts - 1], b[0][n]);
        mma_float16(sums[m][n], a[m][0], b[Parts - 1][n]);
      }
      mma_float16(sums[m][n], a[m][0], b[0][n]);
    }
}

// sums += in times a chunk's weights; `blocks` are the chunk's blocks in shared memory.
template <int Width, int Tiles, int Parts>
__device__ __forceinline__ void multiply_chunk(SirenSums<Tiles>& sums, const SirenActivations<Width, Tiles, Parts>& in,
                                               const unsigned char* blocks, int input_chunks) {
  const unsigned char* row = blocks + threadIdx.x % kWarpSize * kVectorBytes;
#pragma unroll
  for (int group = 0; group < Width / kSirenChunk; group += kSirenInputGroup) {
    if (group >= input_chunks) continue;
#pragma unroll
    for (int k = group; k < group + kSirenInputGroup; ++k) {
      uint32_t b[Parts][2][2];
#pragma unroll
      for (int part = 0; part < Parts; ++part) {
        uint32_t read[4];
        ldmatrix_x4<false>(read, row + (k * Parts + part) * kSirenBlockBytes);
#pragma unroll
        for (int i = 0; i < 4; ++i) b[part][i / 2][i % 2] = read[i];
      }
      multiply_block<Tiles, Parts>(sums, in.fragment[k], b);
    }
  }
}

}  // namespace cips3d
