// The backward of a FiLM-SIREN field on a tile of points of one image, for the CPU kernels (siren_cpu.h).
//
// Computes  from the gradients of density and features: those of the points and directions of the tile, and sums over
//           tiles for those of weights, gamma and beta. With u the phase of a sine layer and G = grad_u^T input summed
//           over an image's points, unscaled by g: grad_weight = sum over images g G, grad_beta = sum grad_u,
//           grad_gamma = rowsum(weight G) + bias grad_beta, grad_bias = sum over images g grad_beta. No phase is kept.
// Axes      as siren_cpu_tile.h
// Launch    each worker has its own SirenBackward and accumulators (SirenCpuGradients)
// Traffic   a tile's outputs and cosines from L2; the accumulators are read and written once a tile
// Numerics  sums over a tile's rows in order, tile by tile; bfloat16 with dot products: grad_u and g grad_u are rounded
//           where matrix products take them, so not for the points and the first layer's weights, grad_beta and density
// Limit     the matrix products' multiply-adds, twice those of the forward
#pragma once
#include "common/siren_cpu_tile.h"

namespace cips3d::CIPS3D_SIMD_NS {

template <class E>
class SirenBackward {
 public:
  using T = Compute<E>;

  SirenBackward(const SirenCpuField& field, const SirenCpuGradients& gradients, int64_t worker)
      : layout_(field.layout),
        net_(field.layout.net),
        gradients_(gradients),
        worker_(worker),
        packed_(static_cast<const T*>(field.packed)),
        tile_(field, true),
        grad_features_(kSirenTileRows * feature_stride()),
        rounded_phase_(kRounds ? kSirenTileRows * layout_.longest_output() : 0),
        grad_linears_(2 * kSirenTileRows * layout_.longest_output()),
        steps_(step_rows_size<E>(kSirenTileRows, max(layout_.longest_output(), feature_stride()))),
        grad_density_(kSirenTileRows),
        grad_points_(kSirenTileRows * kSirenCoordinates),
        grad_directions_(kSirenTileRows * kSirenCoordinates) {
    if (!gradients.wants_weights) return;
    totals_ = static_cast<T*>(gradients.accumulators) + worker * 2 * layout_.accumulator;
    image_sums_ = totals_ + layout_.accumulator;
    fill_zero(totals_, 2 * layout_.accumulator);
  }

  template <class S>
  void enter_image(int64_t image) {
    tile_.template enter_image<S>(image);
    film_sums_ = static_cast<T*>(gradients_.film_sums) + gradients_.part(worker_, image) * 2 * layout_.films;
    fill_zero(film_sums_, 2 * layout_.films);
  }

  // For set_point, set_direction, forward, density and features.
  SirenTile<E>& tile() { return tile_; }

  // After tile().forward(rows); gradients of density [rows] and features [rows, C], null where zero.
  template <class S>
  void backward(int64_t rows, const S* grad_density, const S* grad_features) {
    for (int64_t r = 0; r < rows; ++r) grad_density_[r] = grad_density ? load_scalar(grad_density + r) : T(0);
    const int last_trunk = net_.trunk_layers - 1;
    if (grad_features && net_.feature.outputs > 0) {
      for (int64_t r = 0; r < rows; ++r)
        load_row(grad_features + r * net_.feature.outputs, net_.feature.outputs, grad_features_ + r * feature_stride());
      feature_map(rows);
    } else {
      density_alone(rows);
    }
    if (gradients_.wants_weights) add_density_map(rows);
    for (int k = last_trunk; k > 0; --k) {
      if (gradients_.wants_weights) add_sine_map(k, rows);
      propagate<false>(layout_.sine[k], grad_linear(k), layout_.stride[k + 1], k - 1, rows);
    }
    if (gradients_.wants_weights) add_first_map(rows);
    if (gradients_.wants_points) into_points(rows);
  }

  // Of the last tile: [rows, 3], of the points in world units.
  const T* grad_points() const { return grad_points_; }
  const T* grad_directions() const { return grad_directions_; }

  // After an image's last tile: its sums become its gamma's gradient and its share of the weights'.
  void leave_image() {
    if (!gradients_.wants_weights) return;
    fold<T>(0);
    for (int k = 1; k < net_.sine_layers(); ++k) fold<E>(k);
  }

 private:
  static constexpr bool kRounds = sizeof(E) < sizeof(T);  // products' operands are no T

  int64_t feature_stride() const { return row_stride(net_.feature.outputs); }

  void feature_map(int64_t rows) {
    const SirenCpuMap& map = layout_.feature;
    const int last = net_.sine_layers();
    if (gradients_.wants_weights) {
      accumulate_transposed(rows, map.layer.outputs, map.layer.inputs,
                            step_rows<E>(grad_features_, rows, feature_stride(), steps_), feature_stride(),
                            tile_.output(last - 1), layout_.stride[last], totals_ + map.gradient);
      add_columns(rows, map.layer.outputs, grad_features_, feature_stride(), totals_ + map.gradient_bias);
    }
    if (!net_.has_colour) return propagate<true>(map, grad_features_, feature_stride(), last - 1, rows);
    propagate<false>(map, grad_features_, feature_stride(), last - 1, rows);
    if (gradients_.wants_weights) add_sine_map(last - 1, rows);
    propagate<true>(layout_.sine[last - 1], grad_linear(last - 1), layout_.stride[last], last - 2, rows);
  }

  // Through the linear map behind sine layer k, and its sines. The last trunk layer (kDensity) has the density's map
  // too, and the directions behind its channels.
  template <bool kDensity>
  void propagate(const SirenCpuMap& map, const E* grad_outputs, int64_t grad_stride, int k, int64_t rows) {
    const int64_t channels = layout_.sine[k].layer.outputs;
    multiply(rows, map.layer.outputs, map.layer.inputs, grad_outputs, grad_stride,
             panels_at<E>(packed_, map.grad_panels), [&](int64_t row, int64_t block_rows, int64_t column, const T* c) {
               for (int v = 0; v < kPanel<T> && column + v < channels; v += kLanes<T>) {
                 const Vec<T> weight = kDensity ? load(tile_.density_weight() + column + v) : Vec<T>{};
                 through_sines(k, row, block_rows, column + v, [&](int64_t i) {
                   const Vec<T> grad = load(c + i * kPanel<T> + v);
                   return kDensity ? grad + grad_density_[row + i] * weight : grad;
                 });
               }
               if constexpr (kDensity) keep_directions(c, row, block_rows, column, channels, map.layer.inputs);
             });
  }

  // From the gradients of a vector of sine layer k's outputs, grad_output(i) of row `row` + i: their share of grad_h,
  // grad_phase and grad_linear for the products with them. grad_phase takes the cosines' place where it is a T: always
  // in the first layer, whose products are no matrix products.
  template <class Gradient>
  CIPS3D_INLINE void through_sines(int k, int64_t row, int64_t rows, int64_t j, const Gradient& grad_output) {
    const int64_t stride = layout_.stride[k + 1], at = row * stride + j;
    T *cosine = tile_.cosine(k) + at, *sums = grad_h() + layout_.sine[k].film + j;
    E *phase = grad_phase(k) + at, *linear = grad_linear(k) + at;
    const Vec<T> g = load(tile_.g(k) + j);
    Vec<T> total = load(sums);
    for (int64_t i = 0; i < rows; ++i) {
      const Vec<T> grad = grad_output(i) * load(cosine + i * stride);
      total += grad;
      if (k == 0) {
        store(cosine + i * stride, grad);
      } else {
        store(phase + i * stride, grad);
        store(linear + i * stride, grad * g);
      }
    }
    store(sums, total);
  }

  // The columns of a block from `channels` on are gradients of directions.
  void keep_directions(const T* c, int64_t row, int64_t rows, int64_t column, int64_t channels, int64_t inputs) {
    for (int64_t j = max(channels, column); j < min(inputs, column + kPanel<T>); ++j)
      for (int64_t i = 0; i < rows; ++i)
        grad_directions_[(row + i) * kSirenCoordinates + j - channels] = c[i * kPanel<T> + j - column];
  }

  // The same without features: density's map alone.
  void density_alone(int64_t rows) {
    fill_zero<T>(grad_directions_, rows * kSirenCoordinates);
    for (int64_t j = 0; j < net_.density.inputs; j += kLanes<T>) {
      const Vec<T> weight = load(tile_.density_weight() + j);
      through_sines(net_.trunk_layers - 1, 0, rows, j, [&](int64_t i) { return grad_density_[i] * weight; });
    }
  }

  void add_density_map(int64_t rows) {
    const SirenCpuMap& map = layout_.density;
    const int trunk = net_.trunk_layers;
    for (int64_t j = 0; j < map.layer.inputs; j += kLanes<T>) {
      Vec<T> total = {};
      for (int64_t r = 0; r < rows; ++r)
        total += grad_density_[r] * load(tile_.output(trunk - 1) + r * layout_.stride[trunk] + j);
      store(totals_ + map.gradient + j, load(totals_ + map.gradient + j) + total);
    }
    T bias = 0;
    for (int64_t r = 0; r < rows; ++r) bias += grad_density_[r];
    totals_[map.gradient_bias] += bias;
  }

  // G of a layer.
  void add_sine_map(int k, int64_t rows) {
    const SirenCpuMap& map = layout_.sine[k];
    const int64_t stride = layout_.stride[k + 1];
    accumulate_transposed(rows, map.layer.outputs, map.layer.inputs, step_rows<E>(grad_phase(k), rows, stride, steps_),
                          stride, tile_.output(k - 1), layout_.stride[k], image_sums_ + map.gradient);
  }

  // G of the first layer, whose three inputs would fill a register block to a fifth.
  void add_first_map(int64_t rows) {
    const SirenCpuMap& map = layout_.sine[0];
    const int64_t stride = layout_.stride[1], sums_stride = row_stride(kSirenCoordinates);
    for (int64_t j = 0; j < map.layer.outputs; j += kLanes<T>) {
      Vec<T> sums[kSirenCoordinates] = {};
      for (int64_t r = 0; r < rows; ++r) {
        const T* point = tile_.points() + r * layout_.stride[0];
        const Vec<T> grad = load(tile_.cosine(0) + r * stride + j);
        for (int64_t i = 0; i < kSirenCoordinates; ++i) sums[i] += point[i] * grad;
      }
      T* to = image_sums_ + map.gradient + j * sums_stride;
      for (int64_t lane = 0; lane < min(kLanes<T>, map.layer.outputs - j); ++lane)
        for (int64_t i = 0; i < kSirenCoordinates; ++i) to[lane * sums_stride + i] += sums[i][lane];
    }
  }

  // The first layer's inputs: dot products with the columns of its weight, which its panels hold as rows.
  void into_points(int64_t rows) {
    const SirenCpuMap& map = layout_.sine[0];
    for (int64_t r = 0; r < rows; ++r) {
      Vec<T> sums[kSirenCoordinates] = {};
      for (int64_t j = 0; j < map.layer.outputs; j += kLanes<T>) {
        const Vec<T> grad = load(tile_.cosine(0) + r * layout_.stride[1] + j) * load(tile_.g(0) + j);
        const T* weight = packed_ + map.panels + j / kPanel<T> * kPanel<T> * kSirenCoordinates + j % kPanel<T>;
        for (int64_t i = 0; i < kSirenCoordinates; ++i) sums[i] += grad * load(weight + i * kPanel<T>);
      }
      for (int64_t i = 0; i < kSirenCoordinates; ++i)
        grad_points_[r * kSirenCoordinates + i] = T(net_.point_scale) * sum(sums[i]);
    }
  }

  static void add_columns(int64_t rows, int64_t columns, const E* x, int64_t stride, T* sums) {
    for (int64_t j = 0; j < columns; j += kLanes<T>) {
      Vec<T> total = {};
      for (int64_t r = 0; r < rows; ++r) total += load(x + r * stride + j);
      store(sums + j, load(sums + j) + total);
    }
  }

  // W in panels of F.
  template <class F>
  void fold(int k) {
    const SirenCpuMap& map = layout_.sine[k];
    const int64_t inputs = map.layer.inputs, outputs = map.layer.outputs, stride = row_stride(inputs);
    T *grad_g = film_sums_ + map.film, *grad_h = grad_g + layout_.films;
    for (int64_t o = 0; o < outputs; ++o) {
      const T g = tile_.g(k)[o];
      T *sums = image_sums_ + map.gradient + o * stride, *totals = totals_ + map.gradient + o * stride;
      Vec<T> with_weight = {};
      for (int64_t i = 0; i < inputs; i += kLanes<T>) {
        const Vec<T> value = load(sums + i);
        with_weight += value * load_packed(panels_at<F>(packed_, map.grad_panels), outputs, o, i);
        store(totals + i, load(totals + i) + g * value);
        store(sums + i, Vec<T>{});
      }
      grad_g[o] = sum(with_weight) + packed_[map.bias + o] * grad_h[o];
      totals_[map.gradient_bias + o] += g * grad_h[o];
    }
  }

  T* grad_h() const { return film_sums_ + layout_.films; }
  E* grad_phase(int k) {
    if constexpr (kRounds) {
      return rounded_phase_;
    } else {
      return tile_.cosine(k);
    }
  }
  // Of two layers in a row, one from the other.
  E* grad_linear(int k) { return grad_linears_ + k % 2 * kSirenTileRows * layout_.longest_output(); }

  const SirenCpuLayout& layout_;
  const SirenNetwork& net_;
  const SirenCpuGradients& gradients_;
  int64_t worker_;
  const T* packed_;
  SirenTile<E> tile_;
  ZeroedScratch<E> grad_features_, rounded_phase_, grad_linears_;
  Scratch<Unit<E>> steps_;
  ZeroedScratch<T> grad_density_, grad_points_, grad_directions_;
  T *totals_ = nullptr, *image_sums_ = nullptr;  // accumulators
  T* film_sums_ = nullptr;                       // of this worker's part of the image: grad_g, grad_h
};

// ---- after all tiles: the workers' sums, in their order, into the tensors ----

// `count` values to any storage type.
template <class S>
CIPS3D_INLINE void store_row(const Compute<S>* from, int64_t count, S* to) {
  for (int64_t i = 0; i < count; i += kLanes<Compute<S>>) store_first(to + i, count - i, load(from + i));
}

template <class S>
void reduce_siren_map(const SirenCpuField& field, const SirenCpuGradients& gradients, const SirenCpuMap& map) {
  using T = Compute<S>;
  const SirenLayer& layer = map.layer;
  const int64_t straight = layer.inputs - map.rotation;  // inputs before those that are the weight's first columns
  const Scratch<T> total(row_stride(max(layer.inputs, layer.outputs)));
  const auto sum_workers = [&](int64_t at, int64_t count) {
    for (int64_t i = 0; i < count; i += kLanes<T>) {
      Vec<T> sum = {};
      for (int64_t w = 0; w < gradients.workers; ++w)
        sum += load(static_cast<const T*>(gradients.accumulators) + w * 2 * field.layout.accumulator + at + i);
      store(total + i, sum);
    }
  };
  S* grad_parameters = static_cast<S*>(gradients.grad_parameters);
  for (int64_t o = 0; o < layer.outputs; ++o) {
    S* row = grad_parameters + layer.weight + o * layer.inputs;
    sum_workers(map.gradient + o * row_stride(layer.inputs), layer.inputs);
    store_row(total, straight, row + map.rotation);
    store_row(total + straight, map.rotation, row);
  }
  sum_workers(map.gradient_bias, layer.outputs);
  store_row(total, layer.outputs, grad_parameters + layer.bias);
}

template <class S>
void reduce_siren_parameters(const SirenCpuField& field, const SirenCpuGradients& gradients) {
  for (int k = 0; k < field.layout.net.sine_layers(); ++k) reduce_siren_map<S>(field, gradients, field.layout.sine[k]);
  reduce_siren_map<S>(field, gradients, field.layout.density);
  reduce_siren_map<S>(field, gradients, field.layout.feature);
}

// Gradients of gamma and beta.
template <class S>
void reduce_siren_films(const SirenCpuField& field, const SirenCpuGradients& gradients) {
  using T = Compute<S>;
  const SirenCpuLayout& layout = field.layout;
  const auto reduce = [&](void* to, int64_t image, const SirenCpuMap& map, int64_t offset, T scale) {
    S* row = static_cast<S*>(to) + image * layout.net.films + map.layer.film;
    for (int64_t j = 0; j < map.layer.outputs; ++j) {
      T sum = 0;
      for (int64_t w = 0; w < gradients.workers; ++w)
        if (gradients.has_part(w, image))
          sum += static_cast<const T*>(
              gradients.film_sums)[gradients.part(w, image) * 2 * layout.films + offset + map.film + j];
      store_scalar(row + j, scale * sum);
    }
  };
  for (int64_t image = 0; image < gradients.batch; ++image)
    for (int k = 0; k < layout.net.sine_layers(); ++k) {
      if (gradients.grad_gamma) reduce(gradients.grad_gamma, image, layout.sine[k], 0, T(layout.net.gamma_scale));
      if (gradients.grad_beta)
        reduce(gradients.grad_beta, image, layout.sine[k], layout.films, T(layout.net.beta_scale));
    }
}

}  // namespace cips3d::CIPS3D_SIMD_NS
