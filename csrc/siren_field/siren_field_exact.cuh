// siren_field's forward, layer by layer without tensor cores: float64, and fields that the tensor-core kernels cannot
// hold.
//
// Computes  as siren_field_forward.cuh, x_{l+1} = sin(g (x_l W^T + b) + h), of one image's `rows` points at a time
// Axes      rows [P] of one image; activations [P, width] of every layer in working memory.
// Launch    launch_gemm for each linear map, sine in its epilogue.
// Traffic   every activation is written and read once a layer.
// Numerics  float (double for double) up to the one rounding of the outputs.
// Limit     working memory of kSirenExactElements; tens of times slower than the tensor cores.
#pragma once
#include "common/cuda_gemm.cuh"
#include "common/cuda_math.cuh"
#include "common/siren_cuda.cuh"
#include "siren_field/siren_field_cuda.h"

namespace cips3d {

constexpr int kSirenExactThreads = 256;

// Points of one image whose activations are in working memory at the same time.
template <class T>
struct SirenSlice {
  using Real = Compute<T>;
  const SirenFieldCudaCall& call;
  int64_t image, first, rows;
  Real* activations[kSirenMostSineLayers + 1];  // of layer l; [kSirenMostSineLayers]: [direction, last trunk layer]
  SirenParameters<T> field;

  const T* parameters() const { return field.parameters; }
  int64_t first_row() const { return image * call.count + first; }
};

struct Times {
  double factor;
  template <class Real, int Size>
  __device__ __forceinline__ void operator()(Real (&values)[Size], int64_t, int64_t, int) const {
#pragma unroll
    for (int i = 0; i < Size; ++i) values[i] *= Real(factor);
  }
};

template <class T>
struct SirenSineElement {
  using Real = Compute<T>;
  SirenParameters<T> field;
  int64_t image, film, bias, columns;
  Real* to;
  bool quads;

  __device__ __forceinline__ void operator()(int64_t, int64_t row, int64_t column, int count,
                                             const Real (&sums)[kQuad]) const {
    Real values[kQuad];
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      if (i >= count) continue;
      const int64_t channel = column + i;
      values[i] = sine(field.frequency(image, film + channel) * (sums[i] + field.at(bias + channel)) +
                       field.phase(image, film + channel));
    }
    store_quad(to + row * columns + column, values, count, quads);
  }
};

template <class T>
struct SirenLinearElement {
  using Real = Compute<T>;
  SirenParameters<T> field;
  int64_t bias, columns;
  T* to;

  __device__ __forceinline__ void operator()(int64_t, int64_t row, int64_t column, int count,
                                             const Real (&sums)[kQuad]) const {
    for (int i = 0; i < count; ++i)
      to[row * columns + column + i] = static_cast<T>(sums[i] + field.at(bias + column + i));
  }
};

// to [rows, 3 + width] = [direction of the row's point, from [rows, width]]
template <class T>
__global__ void __launch_bounds__(kSirenExactThreads)
    siren_join_kernel(const T* directions, const Compute<T>* from, Compute<T>* to, int64_t first, int64_t rows,
                      int64_t points_per_direction, int64_t width) {
  const int64_t columns = kSirenCoordinates + width;
  for (int64_t i = int64_t(blockIdx.x) * kSirenExactThreads + threadIdx.x; i < rows * columns;
       i += int64_t(gridDim.x) * kSirenExactThreads) {
    const int64_t row = i / columns, column = i % columns;
    const int64_t direction = (first + row) / points_per_direction;
    to[i] = column < kSirenCoordinates ? static_cast<Compute<T>>(directions[direction * kSirenCoordinates + column])
                                       : from[row * width + column - kSirenCoordinates];
  }
}

template <class T, class X, class Epilogue>
cudaError_t launch_siren_linear(const SirenSlice<T>& slice, const SirenLayer& layer, const X& x,
                                const Epilogue& epilogue, cudaStream_t stream) {
  const Operand<T> weight(slice.parameters() + layer.weight, layer.outputs, layer.inputs);
  return launch_gemm<Compute<T>, Lies::kAlongK, Lies::kAlongK>(slice.rows, layer.outputs, layer.inputs, 1, x, weight,
                                                               epilogue, stream);
}

// The input of sine layer l > 0, as the matrix product reads it.
template <class T>
Operand<Compute<T>> siren_layer_input(const SirenSlice<T>& slice, int l) {
  const SirenNetwork& net = slice.call.network;
  const bool joined = l == net.trunk_layers && net.view_directions;
  return {slice.activations[joined ? kSirenMostSineLayers : l - 1], slice.rows, net.sine[l].inputs};
}

template <class T>
Operand<T, Times> siren_slice_points(const SirenSlice<T>& slice) {
  const T* points = static_cast<const T*>(slice.call.points) + slice.first_row() * kSirenCoordinates;
  return {points, slice.rows, kSirenCoordinates, Times{slice.call.network.point_scale}};
}

template <class T>
cudaError_t launch_siren_join(const SirenSlice<T>& slice, cudaStream_t stream) {
  const SirenNetwork& net = slice.call.network;
  const int64_t rays = slice.call.count / slice.call.points_per_direction, width = net.last_trunk().outputs;
  const T* directions = static_cast<const T*>(slice.call.directions) + slice.image * rays * kSirenCoordinates;
  const unsigned blocks = grid_size(slice.rows * (kSirenCoordinates + width), kSirenExactThreads);
  CIPS3D_LAUNCH((siren_join_kernel<T>), dim3(blocks), dim3(kSirenExactThreads), 0, stream, directions,
                slice.activations[net.trunk_layers - 1], slice.activations[kSirenMostSineLayers], slice.first,
                slice.rows, slice.call.points_per_direction, width);
  return launch_error();
}

// All sine layers: fills `activations`.
template <class T>
cudaError_t launch_siren_slice_sines(const SirenSlice<T>& slice, cudaStream_t stream) {
  const SirenNetwork& net = slice.call.network;
  cudaError_t error = cudaSuccess;
  for (int l = 0; l < net.sine_layers() && !error; ++l) {
    const SirenLayer& layer = net.sine[l];
    Compute<T>* to = slice.activations[l];
    const SirenSineElement<T> element{
        slice.field, slice.image, layer.film, layer.bias, layer.outputs, to, quads_aligned(to, layer.outputs)};
    error = l == 0 ? launch_siren_linear(slice, layer, siren_slice_points(slice), element, stream)
                   : launch_siren_linear(slice, layer, siren_layer_input(slice, l), element, stream);
    if (!error && l == net.trunk_layers - 1 && net.view_directions) error = launch_siren_join(slice, stream);
  }
  return error;
}

template <class T>
cudaError_t launch_siren_slice_forward(const SirenSlice<T>& slice, cudaStream_t stream) {
  const SirenNetwork& net = slice.call.network;
  cudaError_t error = launch_siren_slice_sines(slice, stream);
  const Operand<Compute<T>> trunk(slice.activations[net.trunk_layers - 1], slice.rows, net.last_trunk().outputs);
  const Operand<Compute<T>> last(slice.activations[net.sine_layers() - 1], slice.rows, net.feature.inputs);
  T* density = static_cast<T*>(slice.call.density) + slice.first_row();
  T* features = static_cast<T*>(slice.call.features) + slice.first_row() * net.feature.outputs;
  if (!error)
    error = launch_siren_linear(slice, net.density, trunk,
                                SirenLinearElement<T>{slice.field, net.density.bias, 1, density}, stream);
  if (!error)
    error = launch_siren_linear(slice, net.feature, last,
                                SirenLinearElement<T>{slice.field, net.feature.bias, net.feature.outputs, features},
                                stream);
  return error;
}

// Calls run(slice) for all points, some of one image at a time.
template <class T, class Run>
cudaError_t for_each_siren_slice(const SirenFieldCudaCall& call, const Run& run) {
  const SirenNetwork& net = call.network;
  for (int64_t image = 0; image < call.batch; ++image)
    for (int64_t first = 0; first < call.count; first += call.path.exact_rows) {
      const int64_t rows = std::min(call.path.exact_rows, call.count - first);
      SirenSlice<T> slice{call, image, first, rows, {}, make_parameters<T>(call)};
      auto* next = static_cast<Compute<T>*>(call.activations);
      for (int l = 0; l < net.sine_layers(); next += rows * net.sine[l++].outputs) slice.activations[l] = next;
      slice.activations[kSirenMostSineLayers] = next;
      if (const cudaError_t error = run(slice)) return error;
    }
  return cudaSuccess;
}

template <class T>
cudaError_t launch_siren_exact_forward(const SirenFieldCudaCall& call, cudaStream_t stream) {
  return for_each_siren_slice<T>(call,
                                 [&](const SirenSlice<T>& slice) { return launch_siren_slice_forward(slice, stream); });
}

// 64 MB of float: small beside the inputs that need more.
constexpr int64_t kSirenExactElements = int64_t{1} << 24;

// Sizes of the exact path's working memory; `gradient_arrays` [P, widest] of a slice are a backward's.
inline void set_siren_exact_path(SirenFieldCudaCall* call, int64_t gradient_arrays) {
  const SirenNetwork& net = call->network;
  SirenFieldPath& path = call->path;
  path = {};
  path.exact_widest = net.feature.inputs;
  for (int l = 0; l < net.sine_layers(); ++l)
    path.exact_widest = std::max({path.exact_widest, net.sine[l].inputs, net.sine[l].outputs});
  path.exact_row_elements = net.films + (net.view_directions ? net.colour().inputs : 0);
  path.exact_row_elements += gradient_arrays * path.exact_widest;
  path.exact_rows = std::max<int64_t>(1, std::min(call->count, kSirenExactElements / path.exact_row_elements));
}

}  // namespace cips3d
