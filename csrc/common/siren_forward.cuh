// A SIREN field's layers for one warp of Tiles x 16 points, activations in registers from the first layer to the last.
#pragma once
#include "common/siren_fragments.cuh"
#include "common/siren_weights.cuh"

namespace cips3d {

// Rows of a lane: 2 of each tile, row r is lane / 4 + 8 * r of the warp's points.
template <int Tiles>
constexpr int kSirenRows = 2 * Tiles;

// The three float inputs of each row.
template <int Tiles>
using SirenVectors = float[kSirenRows<Tiles>][3];

// sums = bias, plus the float inputs' product.
template <int Tiles>
__device__ __forceinline__ void start_sums(SirenSums<Tiles>& sums, const unsigned char* chunk,
                                           const SirenVectors<Tiles>& vectors, SirenVector kind) {
  const float4* header = reinterpret_cast<const float4*>(chunk);
#pragma unroll
  for (int n = 0; n < 2; ++n)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float4 weight = header[n * 8 + threadIdx.x % 4 * 2 + i];
#pragma unroll
      for (int r = 0; r < kSirenRows<Tiles>; ++r) {
        float sum = weight.w;
        if (kind != SirenVector::kNone)
          sum = fmaf(weight.x, vectors[r][0], fmaf(weight.y, vectors[r][1], fmaf(weight.z, vectors[r][2], sum)));
        sums[r / 2][n][r % 2 * 2 + i] = sum;
      }
    }
}

// Adds a chunk's share of the density head, in float on activations that were not rounded.
template <int Tiles>
__device__ __forceinline__ void add_density(float (&density)[kSirenRows<Tiles>], const SirenSums<Tiles>& activations,
                                            const unsigned char* chunk) {
  const float* weights = reinterpret_cast<const float*>(chunk + kSirenDensityOffset);
#pragma unroll
  for (int n = 0; n < 2; ++n)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float weight = weights[n * 8 + threadIdx.x % 4 * 2 + i];
#pragma unroll
      for (int r = 0; r < kSirenRows<Tiles>; ++r)
        density[r] = fmaf(weight, activations[r / 2][n][r % 2 * 2 + i], density[r]);
    }
}

// Sum over the four lanes that share a row, the same bits in each.
__device__ __forceinline__ float quad_sum(float value) {
  value += __shfl_xor_sync(kFullWarp, value, 1);
  return value + __shfl_xor_sync(kFullWarp, value, 2);
}

// Computes all layers with a sine. load(kind, vectors) gives the float inputs of a layer; activate(l, c, chunk, sums)
// gets each chunk's phases and replaces them by the activations, which wait in `next`. Afterwards `in` holds the last
// layer's activations.
template <int Width, int Tiles, int Parts, class Next, class Load, class Activate>
__device__ __forceinline__ void siren_layers(const SirenPlan& plan, SirenWeights& weights,
                                             SirenActivations<Width, Tiles, Parts>& in, Next& next, const Load& load,
                                             const Activate& activate) {
  in.clear();
#pragma unroll 1
  for (int l = 0; l < plan.sines; ++l) {
    const SirenPackedLayer& layer = plan.layer[l];
    SirenVectors<Tiles> vectors = {};
    if (layer.vector != SirenVector::kNone) load(layer.vector, vectors);
#pragma unroll(Next::kUnroll)
    for (int c = 0; c < Width / kSirenChunk; ++c) {
      if (c >= layer.output_chunks) continue;
      const unsigned char* chunk = weights.chunk(l, c);
      SirenSums<Tiles> sums;
      start_sums<Tiles>(sums, chunk, vectors, layer.vector);
      multiply_chunk(sums, in, chunk + kSirenHeaderBytes, layer.input_chunks);
      activate(l, c, chunk, sums);
      next.set(l, c, sums);
    }
    next.take(in, layer.output_chunks);
  }
}

template <int Tiles, int Parts>
__device__ __forceinline__ void sine_all(SirenSums<Tiles>& sums) {
#pragma unroll
  for (int m = 0; m < Tiles; ++m)
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[m][n][i] = siren_sine<Parts>(sums[m][n][i]);
}

// The whole field. `density` of each row, without its bias, the same in the four lanes of a row;
// store(c, sums) gets 16 features at a time.
template <int Width, int Tiles, int Parts, class Next, class Load, class Store>
__device__ __forceinline__ void siren_field_of_warp(const SirenPlan& plan, SirenWeights& weights, Next& next,
                                                    const Load& load, float (&density)[kSirenRows<Tiles>],
                                                    const Store& store) {
#pragma unroll
  for (int r = 0; r < kSirenRows<Tiles>; ++r) density[r] = 0;
  SirenActivations<Width, Tiles, Parts> activations;
  const auto activate = [&](int l, int, const unsigned char* chunk, SirenSums<Tiles>& sums) {
    sine_all<Tiles, Parts>(sums);
    if (l == plan.trunk - 1) add_density<Tiles>(density, sums, chunk);
  };
  siren_layers(plan, weights, activations, next, load, activate);
#pragma unroll
  for (int r = 0; r < kSirenRows<Tiles>; ++r) density[r] = quad_sum(density[r]);
  if (plan.layers == plan.sines) return;
  const SirenPackedLayer& layer = plan.layer[plan.sines];
  const SirenVectors<Tiles> none = {};
#pragma unroll 1
  for (int c = 0; c < layer.output_chunks; ++c) {
    const unsigned char* chunk = weights.chunk(plan.sines, c);
    SirenSums<Tiles> sums;
    start_sums<Tiles>(sums, chunk, none, SirenVector::kNone);
    multiply_chunk(sums, activations, chunk + kSirenHeaderBytes, layer.input_chunks);
    store(c, sums);
  }
}

}  // namespace cips3d
