// siren_field's backward, layer by layer without tensor cores: what siren_field_exact.cuh is for the forward.
//
// Computes  for one slice of an image's points, from the last layer to the first,
//           grad_h = grad_y cos(phase), grad_g = grad_h * linear, and of the linear map grad_linear = g * grad_h:
//           grad_x = grad_linear W, grad_weight = grad_linear^T x, sums over points for bias, gamma and beta.
// Axes      rows [P] of one image.
// Launch    launch_gemm and launch_segment_sum a layer; each slice's sums are added up in order at the end.
// Traffic   every activation and gradient is written and read once or twice a layer.
// Numerics  as the forward; the same bits in every run.
// Limit     as the forward.
#pragma once
#include "common/cuda_segment_sum.cuh"
#include "siren_field/siren_field_exact.cuh"

namespace cips3d {

template <class T>
struct SirenSliceGradients {
  using Real = Compute<T>;
  SirenSlice<T> slice;
  Real *of_output, *of_input;               // [P, widest]: of the layer in work
  Real *of_phase, *of_frequency;            // [P, widest]
  Real *parameters, *phases, *frequencies;  // this slice's sums: [parameters], [films], [films]
  Real *weight_partials, *sum_parts;
};

// An operand's elements as the source of a sum over its rows.
template <class Real, class Matrix>
struct SirenColumnSource {
  Matrix matrix;
  __device__ __forceinline__ Real operator()(int64_t, int64_t row, int64_t column) const {
    Real value[1] = {static_cast<Real>(matrix.data[row * matrix.columns + column])};
    matrix.transform_row(value, row, column);
    return value[0];
  }
};

// Epilogue of the linear map computed again: the output's gradient becomes that of the linear map.
template <class T>
struct SirenSineGradientElement {
  using Real = Compute<T>;
  SirenParameters<T> field;
  int64_t image, film, bias, columns;
  Real *of_output, *of_phase, *of_frequency;

  __device__ __forceinline__ void operator()(int64_t, int64_t row, int64_t column, int count,
                                             const Real (&sums)[kQuad]) const {
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      if (i >= count) continue;
      const int64_t channel = column + i, at = row * columns + channel;
      const Real linear = sums[i] + field.at(bias + channel);
      const Real frequency = field.frequency(image, film + channel);
      const Real gradient = of_output[at] * cosine(frequency * linear + field.phase(image, film + channel));
      of_output[at] = gradient * frequency;
      of_phase[at] = gradient;
      of_frequency[at] = gradient * linear;
    }
  }
};

// trunk [P, width] = from's last `width` columns (0 without from) + grad_density times the density head's weights;
// from's three columns before them, if there are any, are the gradients of the points' directions.
template <class T>
__global__ void __launch_bounds__(kSirenExactThreads)
    siren_split_kernel(const Compute<T>* from, int64_t from_columns, const T* grad_density, const T* density_weight,
                       Compute<T>* trunk, Compute<T>* directions, int64_t rows, int64_t width) {
  const int64_t vectors = from_columns > width ? kSirenCoordinates : 0, columns = vectors + width;
  for (int64_t i = int64_t(blockIdx.x) * kSirenExactThreads + threadIdx.x; i < rows * columns;
       i += int64_t(gridDim.x) * kSirenExactThreads) {
    const int64_t row = i / columns, column = i % columns - vectors;
    Compute<T> value = from ? from[i] : Compute<T>(0);
    if (column >= 0 && grad_density)
      value += static_cast<Compute<T>>(grad_density[row]) * static_cast<Compute<T>>(density_weight[column]);
    if (column >= 0)
      trunk[row * width + column] = value;
    else if (directions)
      directions[row * kSirenCoordinates + i % columns] = value;
  }
}

// Sums over the slice's points for a linear map's weight and bias.
template <class T, class Gradient, class X>
cudaError_t launch_siren_linear_sums(const SirenSliceGradients<T>& g, const SirenLayer& layer, const Gradient& gradient,
                                     const X& x, cudaStream_t stream) {
  using Real = Compute<T>;
  const int64_t rows = gradient.rows, elements = layer.outputs * layer.inputs;
  const int64_t splits = gemm_splits(Product::kExact, layer.outputs, layer.inputs, rows);
  const StoreSums<Real> store(g.weight_partials, layer.outputs, layer.inputs);
  cudaError_t error = launch_gemm<Real, Lies::kAcrossK, Lies::kAcrossK>(layer.outputs, layer.inputs, rows, splits,
                                                                        gradient, x, store, stream);
  const ArraySource<Real> partials{g.weight_partials, splits, elements};
  if (!error)
    error = launch_segment_sum(partials, g.parameters + layer.weight, g.sum_parts, 1, splits, elements, 1.0, stream);
  if (error) return error;
  return launch_segment_sum(SirenColumnSource<Real, Gradient>{gradient}, g.parameters + layer.bias, g.sum_parts, 1,
                            rows, layer.outputs, 1.0, stream);
}

// to [P, inputs] = gradient times factor * weight
template <class T, class Gradient, class Out>
cudaError_t launch_siren_linear_input(const SirenSliceGradients<T>& g, const SirenLayer& layer,
                                      const Gradient& gradient, double factor, Out* to, cudaStream_t stream) {
  const Operand<T, Times> weight(g.slice.parameters() + layer.weight, layer.outputs, layer.inputs, Times{factor});
  return launch_gemm<Compute<T>, Lies::kAlongK, Lies::kAcrossK>(g.slice.rows, layer.inputs, layer.outputs, 1, gradient,
                                                                weight, StoreSums<Out>(to, g.slice.rows, layer.inputs),
                                                                stream);
}

// Sine layer l: sums, and (l > 0) the gradient of its input, from of_output.
template <class T, class X>
cudaError_t launch_siren_sine_backward(const SirenSliceGradients<T>& g, int l, const X& x, cudaStream_t stream) {
  using Real = Compute<T>;
  const SirenSlice<T>& slice = g.slice;
  const SirenLayer& layer = slice.call.network.sine[l];
  const SirenSineGradientElement<T> element{slice.field,   slice.image, layer.film, layer.bias,
                                            layer.outputs, g.of_output, g.of_phase, g.of_frequency};
  const Operand<Real> gradient(g.of_output, slice.rows, layer.outputs);
  const ArraySource<Real> phases{g.of_phase, slice.rows, layer.outputs};
  const ArraySource<Real> frequencies{g.of_frequency, slice.rows, layer.outputs};
  cudaError_t error = launch_siren_linear(slice, layer, x, element, stream);
  if (!error) error = launch_siren_linear_sums(g, layer, gradient, x, stream);
  if (!error)
    error = launch_segment_sum(phases, g.phases + layer.film, g.sum_parts, 1, slice.rows, layer.outputs, 1.0, stream);
  if (!error)
    error = launch_segment_sum(frequencies, g.frequencies + layer.film, g.sum_parts, 1, slice.rows, layer.outputs, 1.0,
                               stream);
  if (error) return error;
  if (l > 0) return launch_siren_linear_input(g, layer, gradient, 1.0, g.of_input, stream);
  T* points = static_cast<T*>(slice.call.grad_points);
  if (!points) return cudaSuccess;
  points += slice.first_row() * kSirenCoordinates;
  return launch_siren_linear_input(g, layer, gradient, slice.call.network.point_scale, points, stream);
}

// The feature and colour layers and the density head: leaves the gradient of the last trunk layer in of_output.
template <class T>
cudaError_t launch_siren_heads_backward(SirenSliceGradients<T>& g, cudaStream_t stream) {
  using Real = Compute<T>;
  const SirenSlice<T>& slice = g.slice;
  const SirenFieldCudaCall& call = slice.call;
  const SirenNetwork& net = call.network;
  const T* features = static_cast<const T*>(call.grad_features);
  if (features) features += slice.first_row() * net.feature.outputs;
  const T* density = static_cast<const T*>(call.grad_density);
  if (density) density += slice.first_row();
  const Operand<T> of_features(features, features ? slice.rows : 0, net.feature.outputs);
  const Operand<T> of_density(density, density ? slice.rows : 0, 1);
  const Operand<Real> trunk(slice.activations[net.trunk_layers - 1], slice.rows, net.last_trunk().outputs);
  const Operand<Real> last(slice.activations[net.sine_layers() - 1], slice.rows, net.feature.inputs);

  cudaError_t error = launch_siren_linear_sums(g, net.feature, of_features, last, stream);
  if (!error) error = launch_siren_linear_sums(g, net.density, of_density, trunk, stream);
  if (!error) error = launch_siren_linear_input(g, net.feature, of_features, 1.0, g.of_input, stream);
  int64_t columns = net.feature.inputs;
  if (!error && net.has_colour) {
    std::swap(g.of_input, g.of_output);
    columns = net.colour().inputs;
    error = launch_siren_sine_backward(g, net.trunk_layers, siren_layer_input(slice, net.trunk_layers), stream);
  }
  if (error) return error;
  Real* directions = static_cast<Real*>(call.direction_gradients);
  if (directions) directions += slice.first_row() * kSirenCoordinates;
  CIPS3D_LAUNCH((siren_split_kernel<T>), dim3(grid_size(slice.rows * columns, kSirenExactThreads)),
                dim3(kSirenExactThreads), 0, stream, g.of_input, columns, density,
                slice.parameters() + net.density.weight, g.of_output, directions, slice.rows, net.last_trunk().outputs);
  return launch_error();
}

template <class T>
cudaError_t launch_siren_slice_backward(SirenSliceGradients<T> g, cudaStream_t stream) {
  const SirenSlice<T>& slice = g.slice;
  cudaError_t error = launch_siren_slice_sines(slice, stream);
  if (!error) error = launch_siren_heads_backward(g, stream);
  for (int l = slice.call.network.trunk_layers - 1; l > 0 && !error; --l) {
    error = launch_siren_sine_backward(g, l, siren_layer_input(slice, l), stream);
    std::swap(g.of_input, g.of_output);
  }
  return error ? error : launch_siren_sine_backward(g, 0, siren_slice_points(slice), stream);
}

// Arrays [P, widest] of one slice's gradients, behind its activations.
constexpr int64_t kSirenSliceGradientArrays = 4;

// call.sums: [slices] of [parameters], of [films] phases and of [films] frequencies, one array after the other.
template <class T>
cudaError_t launch_siren_exact_backward(const SirenFieldCudaCall& call, cudaStream_t stream) {
  using Real = Compute<T>;
  const SirenNetwork& net = call.network;
  const SirenFieldPath& path = call.path;
  const int64_t slices_of_image = ceil_div(call.count, path.exact_rows), slices = call.batch * slices_of_image;
  Real* parameters = static_cast<Real*>(call.sums);
  Real *phases = parameters + slices * net.parameters, *frequencies = phases + slices * net.films;
  Real* parts = static_cast<Real*>(call.sum_parts);
  int64_t done = 0;
  cudaError_t error = for_each_siren_slice<T>(call, [&](const SirenSlice<T>& slice) {
    const int64_t elements = path.exact_rows * path.exact_widest;
    Real* of = static_cast<Real*>(call.activations) + path.exact_rows * path.exact_row_elements -
               kSirenSliceGradientArrays * elements;
    const SirenSliceGradients<T> gradients{slice,
                                           of,
                                           of + elements,
                                           of + 2 * elements,
                                           of + 3 * elements,
                                           parameters + done * net.parameters,
                                           phases + done * net.films,
                                           frequencies + done * net.films,
                                           static_cast<Real*>(call.partials),
                                           parts};
    ++done;
    return launch_siren_slice_backward(gradients, stream);
  });
  if (!error && call.grad_parameters)
    error = launch_segment_sum(ArraySource<Real>{parameters, slices, net.parameters},
                               static_cast<T*>(call.grad_parameters), parts, 1, slices, net.parameters, 1.0, stream);
  if (!error && call.grad_gamma)
    error =
        launch_segment_sum(ArraySource<Real>{frequencies, slices_of_image, net.films}, static_cast<T*>(call.grad_gamma),
                           parts, call.batch, slices_of_image, net.films, net.gamma_scale, stream);
  if (!error && call.grad_beta)
    error = launch_segment_sum(ArraySource<Real>{phases, slices_of_image, net.films}, static_cast<T*>(call.grad_beta),
                               parts, call.batch, slices_of_image, net.films, net.beta_scale, stream);
  return error;
}

inline void set_siren_exact_backward_path(SirenFieldCudaCall* call) {
  set_siren_exact_path(call, kSirenSliceGradientArrays);
  const SirenNetwork& net = call->network;
  SirenFieldPath& path = call->path;
  const int64_t slices_of_image = ceil_div(call->count, path.exact_rows), slices = call->batch * slices_of_image;
  path.sum_elements = slices * (net.parameters + 2 * net.films);
  path.sum_part_elements = std::max({segment_sum_workspace(1, path.exact_rows, path.exact_widest),
                                     segment_sum_workspace(1, slices, net.parameters),
                                     segment_sum_workspace(call->batch, slices_of_image, net.films)});
  const auto add = [&](const SirenLayer& layer) {
    const int64_t splits = gemm_splits(Product::kExact, layer.outputs, layer.inputs, path.exact_rows);
    const int64_t elements = layer.outputs * layer.inputs;
    path.partial_elements = std::max(path.partial_elements, splits * elements);
    path.sum_part_elements = std::max(path.sum_part_elements, segment_sum_workspace(1, splits, elements));
  };
  for (int l = 0; l < net.sine_layers(); ++l) add(net.sine[l]);
  add(net.density);
  add(net.feature);
}

}  // namespace cips3d
