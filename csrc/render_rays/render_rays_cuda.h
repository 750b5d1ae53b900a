// Between render_rays' CUDA glue (render_rays_cuda.cpp, knows torch) and its kernels (render_rays_cuda.cu): plain
// pointers.
#pragma once
#include "common/siren_cuda.h"
#include "render_rays/render_rays_math.h"

namespace cips3d {

// How a call is spread over the device, and the working memory that it takes.
struct RenderRaysPath {
  SirenTensorCores cores;
  int64_t rays_per_group;  // that a block takes at a time
  int64_t blocks_per_image;
  int64_t scratch_floats;  // forward: of one block
};

// Arrays have dtype `dtype` except fine_depths and the working memory, which are float. Null: absent or not wanted.
struct RenderRaysCudaCall : SirenCudaField {
  RenderRaysSizes sizes;
  RenderRaysOptions options;
  const void *origins, *directions, *jitter, *u, *noise_coarse, *noise;
  void *feature, *depth, *weights, *fine_depths;
  const void *grad_feature, *grad_depth, *grad_weights;
  void *grad_origins, *grad_directions;

  RenderRaysPath path;
  void* scratch;          // forward: of all blocks
  void* depths;           // backward: [B,R,M], sorted
  void* density;          // [B,R,M], then its gradient
  void* weights_back;     // [B,R,M] gradient of the weights, then the weights
  void* point_gradients;  // [B,R,M,3], if grad_origins or grad_directions are wanted
  void* view_gradients;   // [B,R,M,3], if grad_directions is wanted and the field sees directions
};

// Samples of a ray, at most: the backward's memory for them is a block's shared memory.
constexpr int64_t kRenderRaysMostSamples = 4096;

// Fill in `path` for the current device. A field that the kernels do not take leaves cores.parts 0.
cudaError_t choose_render_rays_path(RenderRaysCudaCall* call);
cudaError_t choose_render_rays_backward_path(RenderRaysCudaCall* call);

cudaError_t launch_render_rays_forward(const RenderRaysCudaCall& call, cudaStream_t stream);
cudaError_t launch_render_rays_backward(const RenderRaysCudaCall& call, cudaStream_t stream);

}  // namespace cips3d
