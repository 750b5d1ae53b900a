// What crosses the line between the torch glue (volume_render_cuda.cpp) and the kernels (volume_render_cuda.cu): raw
// pointers, sizes and options, with Element = void on the glue's side and the dtype's element type in the kernels.
#pragma once
#include "common/cuda_launch.h"
#include "common/volume_render_inputs.h"

namespace cips3d {

// R rays, S samples, C features, n intervals, all contiguous.
template <class Element>
struct VolumeRenderResults {
  Element* feature;        // [R,C]
  Element* depth;          // [R]
  Element* weights;        // [R,n]
  Element* transmittance;  // [R]
  Element* accumulation;   // [R]
};

// Gradients of the results; null: zero.
template <class Element>
struct VolumeRenderResultGradients {
  const Element* feature;
  const Element* depth;
  const Element* weights;
  const Element* transmittance;
  const Element* accumulation;
};

// Gradients of the inputs; null: not wanted.
template <class Element>
struct VolumeRenderInputGradients {
  Element* density;       // [R,S]
  Element* features;      // [R,S,C]
  Element* depths;        // [R,S]
  Element* beta;          // [1]
  Element* ray_norm;      // [R]
  double* beta_partials;  // [volume_render_beta_partials(R)], scratch of the gradient of beta
};

int64_t volume_render_beta_partials(int64_t rays);

// Samples a ray for which the backward kernel's scratch fits a block's shared memory.
int64_t volume_render_backward_max_samples(CudaDtype dtype);

cudaError_t launch_volume_render_forward(CudaDtype dtype, const VolumeRenderInputs<void>& in,
                                         const VolumeRenderResults<void>& out, cudaStream_t stream);
cudaError_t launch_volume_render_backward(CudaDtype dtype, const VolumeRenderInputs<void>& in,
                                          const VolumeRenderResultGradients<void>& grads,
                                          const VolumeRenderInputGradients<void>& out, cudaStream_t stream);

}  // namespace cips3d
