// Between the CUDA glue of the ops with a SIREN field (knows torch) and their kernels: what both say about the field.
#pragma once
#include "common/cuda_launch.h"
#include "common/siren_backward_plan.h"

namespace cips3d {

// How a call is computed on the tensor cores, and the working memory that it takes.
struct SirenTensorCores {
  int parts;             // float16 numbers that make up one operand: 1 or 2; 0: not on the tensor cores
  int64_t packed_bytes;  // packed weights of one image

  SirenBackwardPlan backward;  // of a backward call
  int64_t blocks_per_image;
  int64_t tape_bytes, growth_elements, partial_elements, sum_elements;
};

// A field's arrays, of dtype `dtype` except the working memory. Null: absent or not wanted.
struct SirenCudaField {
  CudaDtype dtype;
  SirenNetwork network;
  bool reduced_precision;  // float32: products of numbers rounded to float16
  int64_t batch;
  const void *parameters, *gamma, *beta;
  void *grad_parameters, *grad_gamma, *grad_beta;

  void* packed;    // [B, packed_bytes] bytes
  void* tapes;     // backward: of all blocks, [tape_bytes] bytes
  void* growths;   // [growth_elements]
  void* partials;  // [partial_elements] sums of blocks
  void* sums;      // [sum_elements] of images
};

constexpr int siren_widest_kernel(int parts) { return parts == 2 ? 128 : 256; }  // what their registers hold

// Float16 numbers an operand on the tensor cores, or 0 for a field that they cannot take.
inline int siren_parts(const SirenCudaField& field) {
  if (field.dtype == CudaDtype::kFloat64) return 0;
  const int parts = field.dtype == CudaDtype::kFloat32 && !field.reduced_precision ? 2 : 1;
  for (int l = 0; l < field.network.sine_layers(); ++l)
    if (field.network.sine[l].outputs > siren_widest_kernel(parts)) return 0;
  return parts;
}

}  // namespace cips3d
