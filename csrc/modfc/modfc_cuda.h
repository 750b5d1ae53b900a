// Between modfc's CUDA glue (modfc_cuda.cpp, knows torch) and its kernels (modfc_cuda.cu): plain pointers.
#pragma once
#include "common/cuda_launch.h"
#include "modfc/modfc_math.h"

namespace cips3d {

// Arrays have dtype `dtype` except the working memory (float, or double for double). Null: absent or not wanted.
struct ModfcCudaCall {
  CudaDtype dtype;
  ModfcSizes sizes;
  ModfcOptions options;
  ModfcNoiseStrides noise_strides;
  bool reduced_precision;  // float32: products of numbers rounded to 16 bits
  const void *x, *weight, *style, *bias, *noise, *skip, *to_rgb, *grad_y, *grad_rgb, *kept_y;
  void *y, *rgb, *grad_x, *grad_weight, *grad_style, *grad_bias, *grad_noise, *grad_skip, *grad_to_rgb;

  void* demodulation;     // d [B,O]; if demodulate
  void* rgb_partials;     // [tiles of O, B*N, K]; if to_rgb
  void* grad_u;           // [B*N,O], gradient of the activation's argument
  void* grad_d_terms;     // [B*N,O], of d before its sum over N; if demodulate and grad_weight or grad_style
  void* grad_d;           // [B,O]; likewise
  void* grad_m_terms;     // [B*N,I], of the modulation m before its sum over N; if grad_style
  void* grad_m;           // [B,I], the product's part of it; if grad_style
  void* sum_parts;        // for launch_segment_sum
  void* weight_partials;  // [weight_splits,O,I]; if grad_weight
  int64_t weight_splits;
};

cudaError_t launch_modfc_forward(const ModfcCudaCall& call, cudaStream_t stream);
cudaError_t launch_modfc_backward(const ModfcCudaCall& call, cudaStream_t stream);

}  // namespace cips3d
