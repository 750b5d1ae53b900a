// Around a SIREN backward kernel: what keeps its gradients in float16's range, and the way from its blocks' partial sums
// to the gradients of parameters, gamma and beta.
//
//   P = sum over an image's points of (gradient of the phases)^T (inputs), with the unfolded weight W = A / g:
//   grad W = sum_images g P,  grad b = sum_images g p,  grad gamma = gamma_scale (W . P + b p),  grad beta = beta_scale
//   p where p is the sum of the gradients of the phases alone.
#pragma once
#include "common/siren_backward_plan.h"
#include "common/siren_weights.cuh"

namespace cips3d {

constexpr int kSirenSumThreads = 256;
// Gradients enter the last layer with a largest entry of 2^7 to 2^8, 2^22 above float16's smallest normal number.
constexpr int kSirenTopExponent = 8;
// Below what power of two they stay on the way down: half of float16's largest.
constexpr int kSirenLargestExponent = 15;
constexpr int kSirenMostExponent = 100;  // of a scale: it and its inverse are normal floats

// The power of two that brings a positive number to [2^(exponent - 1), 2^exponent), as far as a scale goes; 1 for what
// none does.
__device__ __forceinline__ float siren_power_below(float value, int exponent) {
  if (!(value > 0) || !(value < INFINITY)) return 1;
  int own;
  frexpf(value, &own);
  return ldexpf(1.0f, max(-kSirenMostExponent, min(exponent - own, kSirenMostExponent)));
}

// maxima[block] = the largest magnitude of the block's share of a [n] and b [m]; either may be null.
template <class A, class B>
__global__ void __launch_bounds__(kSirenSumThreads)
    siren_maximum_kernel(const A* a, int64_t n, const B* b, int64_t m, float* maxima) {
  CIPS3D_SHARED(float, of_warp, [kSirenSumThreads / kWarpSize]);
  const int64_t first = int64_t(blockIdx.x) * kSirenSumThreads + threadIdx.x;
  const int64_t stride = int64_t(gridDim.x) * kSirenSumThreads;
  float largest = 0;
  for (int64_t i = first; a && i < n; i += stride) largest = max(largest, fabsf(static_cast<float>(a[i])));
  for (int64_t i = first; b && i < m; i += stride) largest = max(largest, fabsf(static_cast<float>(b[i])));
  for (int lanes = kWarpSize / 2; lanes > 0; lanes /= 2)
    largest = max(largest, __shfl_xor_sync(kFullWarp, largest, lanes));
  if (threadIdx.x % kWarpSize == 0) of_warp[threadIdx.x / kWarpSize] = largest;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < kSirenSumThreads / kWarpSize; ++w) largest = max(largest, of_warp[w]);
  maxima[blockIdx.x] = largest;
}

// growths [B, kSirenGrowths]. Block (l, image): the largest norm of a column of A_l, so that an entry of the gradient of
// the layer's inputs is at most that times the norm of the gradient of its phases (Cauchy-Schwarz); block (0, image):
// the largest weight of the density, and the scale at the top.
template <class T>
__global__ void __launch_bounds__(kSirenSumThreads)
    siren_growth_kernel(SirenPlan net, SirenParameters<T> field, int64_t images, const float* maxima, float* growths) {
  CIPS3D_SHARED(float, largest_of, [kSirenSumThreads]);
  const int l = int(blockIdx.x);
  const SirenPackedLayer layer = net.layer[l];
  const int vectors = layer.vector == SirenVector::kNone ? 0 : 3;
  for (int64_t image = blockIdx.y; image < images; image += gridDim.y) {
    float largest = 0, top = 0;
    for (int i = int(threadIdx.x); l > 0 && i < layer.inputs; i += kSirenSumThreads) {
      float squares = 0;
      for (int o = 0; o < layer.outputs; ++o) {
        const float weight = field.frequency(image, layer.film < 0 ? -1 : layer.film + o) *
                             field.at(layer.weight + int64_t(o) * (layer.inputs + vectors) + vectors + i);
        squares = fmaf(weight, weight, squares);
      }
      largest = max(largest, sqrtf(squares));
    }
    for (int i = int(threadIdx.x); l == 0 && i < net.layer[net.trunk - 1].outputs; i += kSirenSumThreads)
      largest = max(largest, fabsf(float(field.at(net.density_weight + i))));
    largest_of[threadIdx.x] = largest;
    __syncthreads();
    if (threadIdx.x == 0) {
      for (int i = 1; i < kSirenSumThreads; ++i) largest = max(largest, largest_of[i]);
      growths[image * kSirenGrowths + l] = largest;
      for (int i = 0; l == 0 && i < kSirenMaximumBlocks; ++i) top = max(top, maxima[i]);
      if (l == 0) growths[image * kSirenGrowths + kSirenGrowths - 1] = siren_power_below(top, kSirenTopExponent);
    }
    __syncthreads();
  }
}

// Where one parameter's sum over points lies in a block's partials: one place, or two to be added.
struct SirenSumPlace {
  int64_t first, second;  // second < 0: none
};

// A layer's element (output, column) of an accumulator tile.
CIPS3D_HOST_DEVICE int siren_accumulator(int output, int column) {
  return (output % 8 * 4 + column % 8 / 2) * 4 + output % 16 / 8 * 2 + column % 2;
}

CIPS3D_HOST_DEVICE int64_t siren_sum_of_inputs(const SirenBackwardPlan& plan, int l, int output, int input) {
  const int64_t tile = (int64_t(output / 16) * plan.input_chunks(l) + input / 16) * 2 + input % 16 / 8;
  return plan.partials[l] + tile * kSirenAccumulatorFloats + siren_accumulator(output, input);
}
CIPS3D_HOST_DEVICE int64_t siren_sum_of_extras(const SirenBackwardPlan& plan, int l, int output, int column) {
  return plan.extras(l) + int64_t(output / 16) * kSirenAccumulatorFloats + siren_accumulator(output, column);
}

constexpr int kSirenOnes = 6;  // column of the 1 in the float inputs' matrix; 0-2 and 3-5 are their two parts

// The layer and row that a parameter belongs to. Column `columns` is the bias.
struct SirenParameterPlace {
  int layer;  // -1: the density head
  int output, column, columns;
};

CIPS3D_HOST_DEVICE SirenParameterPlace siren_parameter_place(const SirenPlan& net, int64_t parameter) {
  for (int l = 0; l < net.layers; ++l) {
    const SirenPackedLayer& layer = net.layer[l];
    if (parameter < layer.weight || parameter >= layer.bias + layer.outputs) continue;
    const int columns = layer.inputs + (layer.vector == SirenVector::kNone ? 0 : 3);
    if (parameter >= layer.bias) return {l, int(parameter - layer.bias), columns, columns};
    const int64_t at = parameter - layer.weight;
    return {l, int(at / columns), int(at % columns), columns};
  }
  const int columns = net.layer[net.trunk - 1].outputs;
  return {-1, 0, int(parameter - net.density_weight), columns};
}

CIPS3D_HOST_DEVICE SirenSumPlace siren_sum_place(const SirenBackwardPlan& plan, const SirenParameterPlace& place) {
  const SirenPlan& net = plan.net;
  if (place.layer < 0) {
    const int l = net.trunk, output = (plan.gradient_chunks(l) - 1) * kSirenChunk;
    if (place.column == place.columns)
      return {siren_sum_of_extras(plan, l, output, kSirenOnes), siren_sum_of_extras(plan, l, output + 1, kSirenOnes)};
    return {siren_sum_of_inputs(plan, l, output, place.column), siren_sum_of_inputs(plan, l, output + 1, place.column)};
  }
  const int l = place.layer, vectors = place.columns - net.layer[l].inputs;
  if (place.column == place.columns) return {siren_sum_of_extras(plan, l, place.output, kSirenOnes), -1};
  if (place.column < vectors)
    return {siren_sum_of_extras(plan, l, place.output, place.column),
            siren_sum_of_extras(plan, l, place.output, place.column + 3)};
  return {siren_sum_of_inputs(plan, l, place.output, place.column - vectors), -1};
}

// sums[image, parameter] = partial sums of the image's blocks in their order
static __global__ void __launch_bounds__(kSirenSumThreads)
    siren_sum_partials_kernel(SirenBackwardPlan plan, const float* partials, float* sums, int64_t images,
                              int64_t parameters, int64_t blocks_per_image) {
  const int64_t stride = int64_t(gridDim.x) * kSirenSumThreads;
  for (int64_t i = int64_t(blockIdx.x) * kSirenSumThreads + threadIdx.x; i < images * parameters; i += stride) {
    const int64_t image = i / parameters;
    const SirenSumPlace place = siren_sum_place(plan, siren_parameter_place(plan.net, i % parameters));
    const float* from = partials + image * blocks_per_image * plan.partial_floats;
    float sum = 0;
    for (int64_t block = 0; block < blocks_per_image; ++block, from += plan.partial_floats)
      sum += place.second < 0 ? from[place.first] : from[place.first] + from[place.second];
    sums[i] = sum;
  }
}

// gradient[parameter] = sum over images of g sums[image, parameter]
template <class T>
__global__ void __launch_bounds__(kSirenSumThreads)
    siren_parameter_gradient_kernel(SirenPlan net, SirenParameters<T> field, const float* sums, T* gradient,
                                    int64_t images, int64_t parameters) {
  const int64_t stride = int64_t(gridDim.x) * kSirenSumThreads;
  for (int64_t i = int64_t(blockIdx.x) * kSirenSumThreads + threadIdx.x; i < parameters; i += stride) {
    const SirenParameterPlace place = siren_parameter_place(net, i);
    const bool film = place.layer >= 0 && net.layer[place.layer].film >= 0;
    float sum = 0;
    for (int64_t image = 0; image < images; ++image)
      sum +=
          sums[image * parameters + i] * field.frequency(image, film ? net.layer[place.layer].film + place.output : -1);
    gradient[i] = static_cast<T>(sum);
  }
}

// grad_gamma, grad_beta [B, films], a warp an entry; either may be null.
template <class T>
__global__ void __launch_bounds__(kSirenSumThreads)
    siren_film_gradient_kernel(SirenPlan net, SirenParameters<T> field, const float* sums, T* grad_gamma, T* grad_beta,
                               int64_t images, int64_t parameters) {
  const int lane = int(threadIdx.x) % kWarpSize;
  const int64_t warps = int64_t(gridDim.x) * (kSirenSumThreads / kWarpSize);
  for (int64_t i = (int64_t(blockIdx.x) * kSirenSumThreads + threadIdx.x) / kWarpSize; i < images * field.films;
       i += warps) {
    const int film = int(i % field.films);
    int l = 0;
    while (film >= net.layer[l].film + net.layer[l].outputs) ++l;
    const SirenPackedLayer& layer = net.layer[l];
    const int output = film - layer.film, columns = layer.inputs + (layer.vector == SirenVector::kNone ? 0 : 3);
    const float* of_image = sums + i / field.films * parameters;
    float sum = 0;
    for (int column = lane; column < columns; column += kWarpSize) {
      const int64_t parameter = layer.weight + int64_t(output) * columns + column;
      sum = fmaf(field.at(parameter), of_image[parameter], sum);
    }
    sum = warp_sum(sum);
    if (lane != 0) continue;
    const float of_bias = of_image[layer.bias + output];
    if (grad_gamma) grad_gamma[i] = static_cast<T>(field.gamma_scale * (sum + field.at(layer.bias + output) * of_bias));
    if (grad_beta) grad_beta[i] = static_cast<T>(field.beta_scale * of_bias);
  }
}

}  // namespace cips3d
