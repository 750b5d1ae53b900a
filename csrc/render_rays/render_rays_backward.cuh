// render_rays' backward kernels around that of the field (common/siren_backward_kernel.cuh).
//
// Computes  integral: the samples by depth, the field at them once more, and from the gradients of a ray's results
//           those of its samples' densities, and the weights; between comes the field's backward, whose features'
//           gradients are weight * gradient of the ray's feature; rays: sums of the points' gradients along each ray
// Axes      integral: as render_rays_forward.cuh; rays: a thread a ray and coordinate.
// Launch    launch_render_rays_backward()
// Traffic   what a ray has in the op's arguments, once; depth, density's gradient and weight of each sample in working
//           memory, 12 B
// Numerics  as the forward. Features are never stored: only their product with the gradient of the ray's feature is.
// Limit     as the forward, thrice; the field is computed twice, since a tape of a whole group of rays would not fit
//           L2.
#pragma once
#include "common/merge_samples_ray.cuh"
#include "common/volume_render_ray_backward.cuh"
#include "render_rays/render_rays_group.cuh"

namespace cips3d {

struct RenderRaysBackwardArrays {
  RenderRaysArrays rays;
  AnyFloats grad_feature, grad_depth, grad_weights;
  float *depths, *density, *weights;  // [B,R,M]: see RenderRaysCudaCall
};

// Bytes of shared memory for the starts of the chunks of a block's rays in work.
inline int64_t ray_start_bytes(int64_t samples) {
  return ceil_div(samples, kWarpSize) * kRenderRaysWarps * int64_t{sizeof(RayCarry<float>)};
}

// One ray's depths in increasing order, by one warp.
__device__ __forceinline__ void sort_depths(const RenderRaysArrays& arrays, int64_t ray, float* sorted) {
  const int fine = int(arrays.sizes.fine), samples = int(arrays.sizes.samples());
  const auto depth = [&](int i) {
    return i < fine ? arrays.fine_depths[ray * fine + i] : arrays.coarse_depth(ray, i - fine);
  };
  for (int i = warp_lane(); i - warp_lane() < samples; i += kWarpSize) {
    const float z = i < samples ? depth(i) : 0;
    const int rank = fine > 0 ? rank_along_ray(i, z, samples, depth) : i;
    if (i < samples) sorted[ray * samples + rank] = z;
  }
}

// What all intervals of a ray share of its results' gradients.
__device__ __forceinline__ SharedGradients<float> shared_gradients(const RenderRaysBackwardArrays& arrays,
                                                                   int64_t ray) {
  SharedGradients<float> shared;
  if (arrays.grad_depth.data) shared.depth.scale = arrays.grad_depth.load(ray);
  if (arrays.grad_feature.data) {
    float white = 0;
    for (int64_t c = warp_lane(); c < arrays.rays.integration.white_channels; c += kWarpSize)
      white += arrays.grad_feature.load(ray * arrays.rays.channels + c);
    shared.weight = -warp_sum(white);
  }
  return shared;
}

// One ray, by one warp: density becomes its gradient, and the gradients of the weights that the features give become
// the weights.
__device__ __forceinline__ void differentiate_integral(const RenderRaysBackwardArrays& arrays, int64_t ray,
                                                       RayCarry<float>* starts) {
  const VolumeRenderOptions& options = arrays.rays.integration;
  const int samples = int(arrays.rays.sizes.samples());
  const VolumeRenderInputs<float> in{
      arrays.density, nullptr, arrays.depths, nullptr, nullptr, nullptr, {1, samples, 0, samples, 0}, options};
  const Ray<float> line(in, ray);
  RayCarry<float> carry;
  __syncwarp();  // the ray before this one is done with `starts`
  int first = 0;
  for (;; first += kWarpSize) {
    if (warp_lane() == 0) starts[first / kWarpSize] = carry;
    if (first + kWarpSize >= samples) break;
    scan_chunk(line, first, carry);
  }
  __syncwarp();
  SharedGradients<float> shared = shared_gradients(arrays, ray);
  BackwardCarry<float> behind;
  for (; first >= 0; first -= kWarpSize) {
    const int i = first + warp_lane();
    const int64_t at = ray * samples + i;
    RayCarry<float> start = starts[first / kWarpSize];
    const Interval<float> it = scan_chunk(line, first, start);
    float weight_grad = shared.depth.scale * it.depth;
    if (i < samples) weight_grad += arrays.weights[at];
    if (i < samples && arrays.grad_weights.data) weight_grad += arrays.grad_weights.load(at);
    const float grad_x = optical_depth_gradient(line, first, it, weight_grad, 0.0f, shared, behind);
    const bool constant = line.is_last(i) && last_density_is_constant(options);
    const float slope = activation_slope(options.activation, it.u, line.beta).u;
    if (i >= samples) continue;
    arrays.density[at] = constant ? 0 : grad_x * it.delta * slope;
    arrays.weights[at] = it.final_weight;
  }
}

template <int Width, int Tiles, int Parts>
__global__ void __launch_bounds__(kRenderRaysThreads)
    render_rays_integral_kernel(SirenPlan plan, RenderRaysBackwardArrays arrays, const unsigned char* packed,
                                bool resident, int64_t rays_per_group, int64_t blocks_per_image, int start_bytes) {
  CIPS3D_DYNAMIC_SHARED(unsigned char, shared);
  const RenderRaysSizes& sizes = arrays.rays.sizes;
  const int image = int(blockIdx.x / blocks_per_image), first = int(blockIdx.x % blocks_per_image);
  const int64_t samples = sizes.samples();
  SirenWeights weights(
      plan, packed + image * plan.packed_bytes, shared + start_bytes, resident, false,
      field_tiles_of_block(sizes, first, blocks_per_image, rays_per_group, samples, 0, kRenderRaysRows<Tiles>));
  auto* starts = reinterpret_cast<RayCarry<float>*>(shared) +
                 int(threadIdx.x) / kWarpSize * ((samples + kWarpSize - 1) / kWarpSize);
#pragma unroll 1
  for (int number = first; number * rays_per_group < sizes.rays; number += int(blocks_per_image)) {
    const RayGroup group(sizes, image, number, rays_per_group);
    for_each_ray(group, [&](int local) { sort_depths(arrays.rays, group.first + local, arrays.depths); });
    __syncthreads();
    float products[kSirenRows<Tiles>] = {};  // of each row's features and the gradient of its ray's feature
    const auto feature = [&](int r, int sample, int c, float value) {
      if (!arrays.grad_feature.data) return;
      const int64_t ray = group.first + sample / int(samples);
      products[r] = fmaf(value, arrays.grad_feature.load(ray * arrays.rays.channels + c), products[r]);
    };
    const auto density = [&](int r, int sample, bool present, float value) {
      const float product = quad_sum(products[r]);
      products[r] = 0;
      if (!present || int(threadIdx.x) % 4 != r % 4) return;
      const int64_t at = int64_t{group.first} * samples + sample;
      arrays.weights[at] = product;
      arrays.density[at] = value + (arrays.rays.noise.data ? arrays.rays.noise.load(at) : 0);
    };
    const auto depth = [&](int sample) { return arrays.depths[group.first * samples + sample]; };
    evaluate_samples<Width, Tiles, Parts>(plan, weights, arrays.rays, group, depth, int(samples), feature, density);
    __syncthreads();
    for_each_ray(group, [&](int local) { differentiate_integral(arrays, group.first + local, starts); });
  }
  weights.finish();
}

// The samples for the field's backward kernel, see siren_backward_kernel.cuh. Gradients are null if not wanted.
struct RenderRaysPoints {
  RenderRaysArrays rays;
  AnyFloats grad_feature;
  const float *depths, *density_gradients, *weights;  // [B,R,M]
  float *points, *views;                              // [B,R,M,3]: gradients of positions and directions
  int64_t count;

  __device__ __forceinline__ int64_t ray(int64_t image, int64_t point) const {
    return image * rays.sizes.rays + point / rays.sizes.samples();
  }
  __device__ __forceinline__ void load(SirenVector kind, int64_t image, int64_t point, float (&vector)[3]) const {
    rays.load(kind, ray(image, point), depths[image * count + point], vector);
  }
  __device__ __forceinline__ float feature_gradient(int64_t image, int64_t point, int feature) const {
    if (!grad_feature.data || feature >= rays.channels) return 0;
    return weights[image * count + point] * grad_feature.load(ray(image, point) * rays.channels + feature);
  }
  __device__ __forceinline__ float density_gradient(int64_t image, int64_t point) const {
    return density_gradients[image * count + point];
  }
  __device__ __forceinline__ bool wanted(SirenVector kind) const {
    return (kind == SirenVector::kPoint && points) || (kind == SirenVector::kDirection && views);
  }
  __device__ __forceinline__ void store(SirenVector kind, int64_t image, int64_t point, int axis, float value) const {
    const int64_t at = (image * count + point) * 3 + axis;
    if (kind == SirenVector::kPoint)
      points[at] = rays.point_scale * value;
    else
      views[at] = value;
  }
};

constexpr int kRaySumThreads = 256;

// point = origin + depth * direction, and the field may see the direction itself. Null: not wanted.
static __global__ void __launch_bounds__(kRaySumThreads)
    render_rays_sum_kernel(RenderRaysPoints samples, AnyFloats grad_origins, AnyFloats grad_directions, int64_t rays) {
  const int64_t per_ray = samples.rays.sizes.samples(), stride = int64_t(gridDim.x) * kRaySumThreads;
  for (int64_t i = int64_t(blockIdx.x) * kRaySumThreads + threadIdx.x; i < rays * 3; i += stride) {
    float origin = 0, direction = 0;
    for (int64_t k = 0; k < per_ray; ++k) {
      const int64_t sample = i / 3 * per_ray + k, at = sample * 3 + i % 3;
      origin += samples.points[at];
      direction = fmaf(samples.depths[sample], samples.points[at], direction);
      if (samples.views) direction += samples.views[at];
    }
    if (grad_origins.data) grad_origins.store(i, origin);
    if (grad_directions.data) grad_directions.store(i, direction);
  }
}

}  // namespace cips3d
