// Between siren_field's CUDA glue (siren_field_cuda.cpp, knows torch) and its kernels (siren_field_cuda.cu): plain
// pointers.
#pragma once
#include "common/cuda_launch.h"
#include "common/siren_backward_plan.h"

namespace cips3d {

// How a call is computed: on the tensor cores with operands of 1 or 2 float16 numbers, or (parts 0) exactly, layer by
// layer. And the working memory that it takes.
struct SirenFieldPath {
  int parts;
  int64_t packed_bytes;        // tensor cores: packed weights of one image
  int64_t exact_rows;          // exactly: points of an image at a time
  int64_t exact_row_elements;  // of working memory for one point
  int64_t exact_widest;        // channels of the widest layer, or input of one

  SirenBackwardPlan backward;  // tensor cores: of a backward call
  int64_t blocks_per_image;
  int64_t tape_bytes, scale_elements, partial_elements, sum_elements, sum_part_elements;
};

// Arrays have dtype `dtype` except the working memory. Null: absent or not wanted.
struct SirenFieldCudaCall {
  CudaDtype dtype;
  SirenNetwork network;
  bool reduced_precision;  // float32: products of numbers rounded to float16
  int64_t batch, count, points_per_direction;
  int64_t rays;  // directions of an image
  const void *points, *parameters, *gamma, *beta, *directions;
  void *features, *density;
  const void *grad_features, *grad_density;
  void *grad_points, *grad_parameters, *grad_gamma, *grad_beta, *grad_directions;

  SirenFieldPath path;
  void* packed;               // [B, packed_bytes] bytes
  void* activations;          // [exact_rows * exact_row_elements]
  void* tapes;                // backward: of all blocks, [tape_bytes] bytes
  void* scales;               // [scale_elements]
  void* partials;             // [partial_elements] sums of blocks, or of parts of a matrix product
  void* sums;                 // [sum_elements] of images, or of slices
  void* sum_parts;            // [sum_part_elements] for launch_segment_sum
  void* direction_gradients;  // [B,N,3] of points, if grad_directions is wanted
};

// Fill in `path` for the current device.
cudaError_t choose_siren_field_path(SirenFieldCudaCall* call);
cudaError_t choose_siren_field_backward_path(SirenFieldCudaCall* call);

cudaError_t launch_siren_field_forward(const SirenFieldCudaCall& call, cudaStream_t stream);
cudaError_t launch_siren_field_backward(const SirenFieldCudaCall& call, cudaStream_t stream);

}  // namespace cips3d
