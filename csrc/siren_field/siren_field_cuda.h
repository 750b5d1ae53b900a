// Between siren_field's CUDA glue (siren_field_cuda.cpp, knows torch) and its kernels (siren_field_cuda.cu): plain
// pointers.
#pragma once
#include "common/siren_cuda.h"

namespace cips3d {

// How a call is computed: on the tensor cores, or (cores.parts 0) exactly, layer by layer. And the working memory that
// it takes.
struct SirenFieldPath {
  SirenTensorCores cores;
  int64_t exact_rows;          // exactly: points of an image at a time
  int64_t exact_row_elements;  // of working memory for one point
  int64_t exact_widest;        // channels of the widest layer, or input of one
  int64_t partial_elements;    // of the backward: sums of parts of a matrix product
  int64_t sum_elements;        // of slices
  int64_t sum_part_elements;
};

// Arrays have dtype `dtype` except the working memory. Null: absent or not wanted.
struct SirenFieldCudaCall : SirenCudaField {
  int64_t count, points_per_direction;
  int64_t rays;  // directions of an image
  const void *points, *directions;
  void *features, *density;
  const void *grad_features, *grad_density;
  void *grad_points, *grad_directions;

  SirenFieldPath path;
  void* activations;          // [exact_rows * exact_row_elements]
  void* sum_parts;            // [path.sum_part_elements] for launch_segment_sum
  void* direction_gradients;  // [B,N,3] of points, if grad_directions is wanted
};

// Fill in `path` for the current device.
cudaError_t choose_siren_field_path(SirenFieldCudaCall* call);
cudaError_t choose_siren_field_backward_path(SirenFieldCudaCall* call);

cudaError_t launch_siren_field_forward(const SirenFieldCudaCall& call, cudaStream_t stream);
cudaError_t launch_siren_field_backward(const SirenFieldCudaCall& call, cudaStream_t stream);

}  // namespace cips3d
