// Between siren_field's CUDA glue (siren_field_cuda.cpp, knows torch) and its kernels (siren_field_cuda.cu): plain
// pointers.
#pragma once
#include "common/cuda_launch.h"
#include "common/siren_plan.h"

namespace cips3d {

// How a call is computed: on the tensor cores with operands of 1 or 2 float16 numbers, or (parts 0) exactly, layer by
// layer. And the working memory that it takes.
struct SirenFieldPath {
  int parts;
  int64_t packed_bytes;        // tensor cores: packed weights of one image
  int64_t exact_rows;          // exactly: points of an image at a time
  int64_t exact_row_elements;  // activations of one point
};

// Arrays have dtype `dtype` except the working memory. Null: absent or not wanted.
struct SirenFieldCudaCall {
  CudaDtype dtype;
  SirenNetwork network;
  bool reduced_precision;  // float32: products of numbers rounded to float16
  int64_t batch, count, points_per_direction;
  const void *points, *parameters, *gamma, *beta, *directions;
  void *features, *density;

  SirenFieldPath path;
  void* packed;       // [B, packed_bytes] bytes
  void* activations;  // [exact_rows * exact_row_elements] float (double for double)
};

// Fills in `path` for the current device.
cudaError_t choose_siren_field_path(SirenFieldCudaCall* call);

cudaError_t launch_siren_field_forward(const SirenFieldCudaCall& call, cudaStream_t stream);

}  // namespace cips3d
