// Between film_sine's CUDA glue (film_sine_cuda.cpp, knows torch) and its kernels (film_sine_cuda.cu): plain pointers.
#pragma once
#include "common/cuda_launch.h"
#include "film_sine/film_sine_math.h"

namespace cips3d {

// Arrays have dtype `dtype` except the working memory (float, or double for double). Null: absent or not wanted.
struct FilmSineCudaCall {
  CudaDtype dtype;
  FilmSineSizes sizes;
  FilmSineOptions options;
  bool reduced_precision;  // float32: products of numbers rounded to 16 bits
  const void *x, *weight, *bias, *gamma, *beta, *grad_y;
  void *y, *grad_x, *grad_weight, *grad_bias, *grad_gamma, *grad_beta;

  void* grad_h;           // [B*N,O], gradient of the sine's argument
  void* grad_g;           // [B*N,O], of the frequency, before its sum over N; if grad_gamma is wanted
  void* sums_h;           // [B,O], grad_h summed over N; if grad_bias or grad_beta is wanted
  void* sum_parts;        // for launch_segment_sum
  void* weight_partials;  // [weight_splits,O,I]; if grad_weight is wanted
  int64_t weight_splits;
};

cudaError_t launch_film_sine_forward(const FilmSineCudaCall& call, cudaStream_t stream);
cudaError_t launch_film_sine_backward(const FilmSineCudaCall& call, cudaStream_t stream);

}  // namespace cips3d
