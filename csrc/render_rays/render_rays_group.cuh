// What the forward and the backward kernel of render_rays share: a block's rays, and the field at their samples.
#pragma once
#include "common/cuda_any_float.cuh"
#include "common/siren_cuda.cuh"
#include "common/volume_render_inputs.h"
#include "render_rays/render_rays_math.h"

namespace cips3d {

constexpr int kRenderRaysWarps = 8, kRenderRaysThreads = kRenderRaysWarps * kWarpSize;

// The arrays of an op call that both passes read. Those of a sample have [ray, sample] after each other.
struct RenderRaysArrays {
  AnyFloats origins, directions, parameters, jitter, noise;
  float* fine_depths;
  RenderRaysSizes sizes;
  float near, far;
  VolumeRenderOptions integration;  // the final one
  int64_t channels;
  float point_scale;

  __device__ __forceinline__ float coarse_depth(int64_t ray, int i) const {
    return stratified_depth(near, far, int64_t{i}, sizes.coarse, jitter.load(ray * sizes.coarse + i));
  }
  // What the field gets of the sample at depth z of a ray.
  __device__ __forceinline__ void load(SirenVector kind, int64_t ray, float z, float (&vector)[3]) const {
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      const float direction = directions.load(ray * 3 + i);
      vector[i] =
          kind == SirenVector::kDirection ? direction : point_scale * fmaf(z, direction, origins.load(ray * 3 + i));
    }
  }
};

// The rays that a block has in work: group `number` of an image.
struct RayGroup {
  int first;  // among all rays of all images
  int rays;

  __device__ __forceinline__ RayGroup(const RenderRaysSizes& sizes, int image, int number, int64_t per_group)
      : first(int(image * sizes.rays + number * per_group)),
        rays(int(min(per_group, sizes.rays - number * per_group))) {}
};

template <int Tiles>
constexpr int kRenderRaysRows = kRenderRaysWarps * Tiles * 16;  // samples that a block takes at a time

CIPS3D_HOST_DEVICE int64_t field_tiles(int64_t samples, int64_t rows) { return (samples + rows - 1) / rows; }

// How often a block's samples go through the field: with `first_pass` and `second_pass` samples a ray, the groups
// first, first + blocks_per_image, ... of an image.
__device__ __forceinline__ int64_t field_tiles_of_block(const RenderRaysSizes& sizes, int64_t first,
                                                        int64_t blocks_per_image, int64_t per_group, int64_t first_pass,
                                                        int64_t second_pass, int64_t rows) {
  int64_t tiles = 0;
  for (int64_t ray = first * per_group; ray < sizes.rays; ray += blocks_per_image * per_group) {
    const int64_t rays = min(per_group, sizes.rays - ray);
    tiles += field_tiles(rays * first_pass, rows) + field_tiles(rays * second_pass, rows);
  }
  return tiles;
}

// Calls run(ray) for each ray of the group, by one warp each.
template <class Run>
__device__ __forceinline__ void for_each_ray(const RayGroup& group, const Run& run) {
  for (int ray = int(threadIdx.x) / kWarpSize; ray < group.rays; ray += kRenderRaysWarps) run(ray);
}

// The field at `per_ray` samples of each ray of the group, which depth(sample) gives. All threads of the block call it.
// features(r, sample, c, value) gets row r's feature c from one lane, density(r, sample, present, value) a row's
// density in the four lanes that share it, after its features; `sample` counts through the group's.
template <int Width, int Tiles, int Parts, class Depth, class Features, class Density>
__device__ __forceinline__ void evaluate_samples(const SirenPlan& plan, SirenWeights& weights,
                                                 const RenderRaysArrays& arrays, const RayGroup& group,
                                                 const Depth& depth, int per_ray, const Features& features,
                                                 const Density& density) {
  const int lane = int(threadIdx.x) % kWarpSize, warp = int(threadIdx.x) / kWarpSize, samples = group.rays * per_ray;
#pragma unroll 1
  for (int tile = 0; tile * kRenderRaysRows<Tiles> < samples; ++tile) {
    const int first = (tile * kRenderRaysWarps + warp) * Tiles * 16 + lane / 4;
    const auto load = [&](SirenVector kind, SirenVectors<Tiles>& vectors) {
#pragma unroll
      for (int r = 0; r < kSirenRows<Tiles>; ++r) {
        const int sample = min(first + r * 8, samples - 1);
        arrays.load(kind, int64_t{group.first} + sample / per_ray, depth(sample), vectors[r]);
      }
    };
    const auto store = [&](int c, const SirenSums<Tiles>& sums) {
#pragma unroll
      for (int r = 0; r < kSirenRows<Tiles>; ++r)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int feature = c * kSirenChunk + i / 2 * 8 + lane % 4 * 2 + i % 2;
          if (first + r * 8 < samples && feature < arrays.channels)
            features(r, first + r * 8, feature, sums[r / 2][i / 2][r % 2 * 2 + i % 2]);
        }
    };
    float densities[kSirenRows<Tiles>];
    SirenNextInRegisters<Width, Tiles, Parts> next;
    siren_field_of_warp<Width, Tiles, Parts>(plan, weights, next, load, densities, store);
    const float density_bias = arrays.parameters.load(plan.density_bias);
#pragma unroll
    for (int r = 0; r < kSirenRows<Tiles>; ++r)
      density(r, first + r * 8, first + r * 8 < samples, densities[r] + density_bias);
  }
}

}  // namespace cips3d
