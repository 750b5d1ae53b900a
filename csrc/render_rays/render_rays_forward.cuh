// render_rays' forward kernel.
//
// Computes  render_rays.h: coarse depths -> field -> weights -> fine depths -> field -> merge -> integration
// Axes      a block takes groups of rays of one image: warps own Tiles x 16 samples for the field, a ray each along
//           the rays.
// Launch    launch_render_rays_forward(): 256 threads; grid = images x blocks_per_image, blocks walk over their image's
//           groups. Shared memory: the weights (common/siren_weights.cuh).
// Traffic   what a ray has in the op's arguments, once; a block's samples go to working memory of its own and back,
//           through L2; weights once a block, or once a tile.
// Numerics  as siren_field_forward.cuh in the field, float along the rays. A ray's bits do not depend on the other
//           rays.
// Limit     as siren_field_forward.cuh.
#pragma once
#include "common/merge_samples_ray.cuh"
#include "common/sample_pdf_ray.cuh"
#include "common/volume_render_ray.cuh"
#include "render_rays/render_rays_group.cuh"

namespace cips3d {

struct RenderRaysForwardArrays {
  RenderRaysArrays rays;
  AnyFloats u, noise_coarse;
  VolumeRenderOptions weighing;  // of the coarse samples
  AnyFloats feature, depth, weights;
};

constexpr int kScratchLines = 5;  // numbers of a sample beside its features

// Floats of one block's working memory, see RayScratch.
inline int64_t render_rays_scratch(const RenderRaysSizes& sizes, int64_t channels, int64_t rays) {
  return rays * sizes.samples() * (channels + kScratchLines);
}

// A block's samples: as they are evaluated, all fine ones first, then all coarse ones; and by depth, ray by ray.
struct RayScratch {
  float* features;                   // [samples, C]
  float *z, *density;                // [samples]
  float *sorted_density, *sorted_z;  // [rays, M]
  int* order;                        // [rays, M]: rows of `density` and `features`
  int fine;                          // samples: where the coarse ones start

  __device__ __forceinline__ RayScratch(float* memory, const RenderRaysArrays& arrays, const RayGroup& group,
                                        int64_t rays_per_group) {
    memory = computed_anew(memory);
    const int64_t samples = rays_per_group * arrays.sizes.samples();
    features = memory;  // first: the field writes them one by one
    z = features + samples * arrays.channels;
    density = z + samples;
    sorted_density = density + samples;
    sorted_z = sorted_density + samples;
    order = reinterpret_cast<int*>(sorted_z + samples);
    fine = int(group.rays * arrays.sizes.fine);
  }
};

__device__ __forceinline__ void place_coarse_samples(const RenderRaysArrays& arrays, const RayScratch& scratch,
                                                     const RayGroup& group) {
  const int coarse = int(arrays.sizes.coarse);
  for (int i = int(threadIdx.x); i < group.rays * coarse; i += kRenderRaysThreads)
    scratch.z[scratch.fine + i] = arrays.coarse_depth(group.first + i / coarse, i % coarse);
}

// Fine depths of one ray, by one warp, where the weights of its coarse samples are; intervals reach from middle to
// middle. `local` counts within the group.
__device__ __forceinline__ void sample_ray(const RenderRaysForwardArrays& arrays, const RayScratch& scratch,
                                           int64_t ray, int local) {
  const RenderRaysSizes& sizes = arrays.rays.sizes;
  const int coarse = int(sizes.coarse), fine = int(sizes.fine);
  const float *z = scratch.z + scratch.fine + local * coarse,
              *density = scratch.density + scratch.fine + local * coarse;
  float *weights = scratch.sorted_density + local * coarse, *cdf = scratch.sorted_z + local * coarse;
  for (int i = warp_lane(); i < coarse; i += kWarpSize)
    weights[i] = density[i] + (arrays.noise_coarse.data ? arrays.noise_coarse.load(ray * coarse + i) : 0);
  __syncwarp();
  const VolumeRenderInputs<float> in{weights,        nullptr, z, nullptr, nullptr, nullptr, {1, coarse, 0, coarse, 0},
                                     arrays.weighing};
  const Ray<float> line(in, 0);
  RayCarry<float> carry;
  for (int first = 0; first < coarse; first += kWarpSize) {
    const Interval<float> it = scan_chunk(line, first, carry);
    if (first + warp_lane() < coarse) weights[first + warp_lane()] = it.final_weight;
  }
  __syncwarp();
  const SamplePdfOptions options{kPdfEps, false};
  sum_up_weights([&](int k) { return weights[k + 1] + float(kWeightFloor); }, coarse - 2, float(kPdfEps), cdf);
  __syncwarp();
  for (int k = warp_lane(); k < fine; k += kWarpSize) {
    const float depth = depth_at(cdf, coarse - 2, arrays.u.load(ray * fine + k), options,
                                 [&](int i) { return 0.5f * (z[i + 1] + z[i]); });
    scratch.z[local * fine + k] = depth;
    arrays.rays.fine_depths[ray * fine + k] = depth;
  }
}

// One ray's samples by depth, by one warp.
__device__ __forceinline__ void merge_ray(const RenderRaysForwardArrays& arrays, const RayScratch& scratch, int64_t ray,
                                          int local) {
  const int fine = int(arrays.rays.sizes.fine), coarse = int(arrays.rays.sizes.coarse), samples = fine + coarse;
  const auto row = [&](int i) { return i < fine ? local * fine + i : scratch.fine + local * coarse + i - fine; };
  const AnyFloats& noise = arrays.rays.noise;
  for (int i = warp_lane(); i - warp_lane() < samples; i += kWarpSize) {
    const float z = i < samples ? scratch.z[row(i)] : 0;
    const int rank = fine > 0 ? rank_along_ray(i, z, samples, [&](int j) { return scratch.z[row(j)]; }) : i;
    if (i >= samples) continue;
    const int at = local * samples + rank;
    scratch.sorted_z[at] = z;
    scratch.order[at] = row(i);
    scratch.sorted_density[at] = scratch.density[row(i)] + (noise.data ? noise.load(ray * samples + rank) : 0);
  }
  __syncwarp();
}

// One ray's results, by one warp.
__device__ __forceinline__ void integrate_ray(const RenderRaysForwardArrays& arrays, const RayScratch& scratch,
                                              int64_t ray, int local) {
  const int samples = int(arrays.rays.sizes.samples());
  const int64_t channels = arrays.rays.channels;
  merge_ray(arrays, scratch, ray, local);
  float* weights = scratch.sorted_density + local * samples;
  const VolumeRenderInputs<float> in{
      weights, nullptr, scratch.sorted_z + local * samples,        nullptr,
      nullptr, nullptr, {1, samples, channels, samples, channels}, arrays.rays.integration};
  const Ray<float> line(in, 0);
  RayCarry<float> carry;
  float depth = 0;
  for (int first = 0; first < samples; first += kWarpSize) {
    const int i = first + warp_lane();
    const Interval<float> it = scan_chunk(line, first, carry);
    depth += it.final_weight * it.depth;
    if (i >= samples) continue;
    weights[i] = it.final_weight;
    arrays.weights.store(ray * samples + i, it.final_weight);
  }
  depth = warp_sum(depth);
  if (warp_lane() == 0) arrays.depth.store(ray, depth);
  __syncwarp();
  const int* order = scratch.order + local * samples;
  for (int64_t c = warp_lane(); c < channels; c += kWarpSize) {
    float sum = c < arrays.rays.integration.white_channels ? 1 - carry.weight_sum : 0;
#pragma unroll 4
    for (int i = 0; i < samples; ++i) sum = fmaf(weights[i], scratch.features[order[i] * channels + c], sum);
    arrays.feature.store(ray * channels + c, sum);
  }
}

template <int Width, int Tiles, int Parts>
__global__ void __launch_bounds__(kRenderRaysThreads)
    render_rays_forward_kernel(SirenPlan plan, RenderRaysForwardArrays arrays, const unsigned char* packed,
                               bool resident, int64_t rays_per_group, int64_t blocks_per_image, float* memory) {
  CIPS3D_DYNAMIC_SHARED(unsigned char, shared);
  const RenderRaysSizes& sizes = arrays.rays.sizes;
  const int image = int(blockIdx.x / blocks_per_image), first = int(blockIdx.x % blocks_per_image);
  SirenWeights weights(plan, packed + image * plan.packed_bytes, shared, resident, false,
                       field_tiles_of_block(sizes, first, blocks_per_image, rays_per_group, sizes.coarse, sizes.fine,
                                            kRenderRaysRows<Tiles>));
  memory += blockIdx.x * rays_per_group * sizes.samples() * (arrays.rays.channels + kScratchLines);
#pragma unroll 1
  for (int number = first; number * rays_per_group < sizes.rays; number += int(blocks_per_image)) {
    const RayGroup group(sizes, image, number, rays_per_group);
    const auto scratch = [&] { return RayScratch(memory, arrays.rays, group, rays_per_group); };
    place_coarse_samples(arrays.rays, scratch(), group);
    __syncthreads();
#pragma unroll 1
    for (bool coarse = true;; coarse = false) {
      const auto row = [&](const RayScratch& samples, int sample) { return coarse ? samples.fine + sample : sample; };
      const auto feature = [&](int, int sample, int c, float value) {
        const RayScratch samples = scratch();
        samples.features[row(samples, sample) * arrays.rays.channels + c] = value;
      };
      const auto density = [&](int r, int sample, bool present, float value) {
        const RayScratch samples = scratch();
        if (present && int(threadIdx.x) % 4 == r % 4) samples.density[row(samples, sample)] = value;
      };
      const auto depth = [&](int sample) {
        const RayScratch samples = scratch();
        return samples.z[row(samples, sample)];
      };
      evaluate_samples<Width, Tiles, Parts>(plan, weights, arrays.rays, group, depth,
                                            int(coarse ? sizes.coarse : sizes.fine), feature, density);
      __syncthreads();
      if (!coarse || sizes.fine == 0) break;
      for_each_ray(group, [&](int local) { sample_ray(arrays, scratch(), group.first + local, local); });
      __syncthreads();
    }
    for_each_ray(group, [&](int local) { integrate_ray(arrays, scratch(), group.first + local, local); });
    __syncthreads();
  }
  weights.finish();
}

}  // namespace cips3d
