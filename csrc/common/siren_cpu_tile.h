// A FiLM-SIREN field on a tile of points of one image, for the CPU kernels (siren_cpu.h).
//
// Computes  siren.h: points (and directions) in, density and features out
// Axes      a tile's rows are points; layers of any widths
// Launch    each thread has its own SirenTile; it enters an image, then takes any number of that image's tiles
// Traffic   a tile's rows, some hundred KB, stay in L2, or L3 for wide fields; weights are read once a tile
// Numerics  float32 (float64 for float64), one accumulator an element; phases are g * x W^T + (g * bias + h); bfloat16
//           with dot products: sine layers' outputs are rounded (and directions), points are not
// Limit     the matrix products' multiply-adds
#pragma once
#include "common/cpu_gemm.h"
#include "common/simd_math.h"
#include "common/siren_cpu.h"

namespace cips3d::CIPS3D_SIMD_NS {

// The panels that begin at an offset of the packed weights; E is what their product multiplies.
template <class E, class T>
CIPS3D_INLINE const E* panels_at(const T* packed, int64_t offset) {
  return reinterpret_cast<const E*>(packed + offset);
}

// Packs the weights of one linear map of a field, for products of E.
template <class E, class S>
void pack_siren_map(const SirenCpuField& field, const SirenCpuMap& map) {
  using T = Compute<S>;
  const SirenLayer& layer = map.layer;
  const S* weight = static_cast<const S*>(field.parameters) + layer.weight;
  T* packed = static_cast<T*>(field.packed);
  const Scratch<E> row(padded(layer.inputs)), rotated(layer.outputs * layer.inputs);
  for (int64_t o = 0; o < layer.outputs; ++o) {
    load_row(weight + o * layer.inputs, layer.inputs, static_cast<E*>(row));
    for (int64_t k = 0; k < layer.inputs; ++k) rotated[o * layer.inputs + k] = row[map.column(k)];
  }
  const E* straight = rotated;
  pack_transposed(straight, layer.outputs, layer.inputs, reinterpret_cast<E*>(packed + map.panels));
  const bool is_density = &map == &field.layout.density;  // its one row serves the forward too
  if (field.for_gradients || is_density)
    pack(straight, layer.outputs, layer.inputs, reinterpret_cast<E*>(packed + map.grad_panels));
  load_row(static_cast<const S*>(field.parameters) + layer.bias, layer.outputs, packed + map.bias);
}

// For a SirenTile<E>. The first layer's three inputs and the density's one output make no products worth rounding for.
template <class E, class S>
void pack_siren(const SirenCpuField& field) {
  pack_siren_map<Compute<S>, S>(field, field.layout.sine[0]);
  for (int k = 1; k < field.layout.net.sine_layers(); ++k) pack_siren_map<E, S>(field, field.layout.sine[k]);
  pack_siren_map<Compute<S>, S>(field, field.layout.density);
  pack_siren_map<E, S>(field, field.layout.feature);
}

// One thread's rows. E is what products multiply: the sine layers' outputs are kept as that.
template <class E>
class SirenTile {
 public:
  using T = Compute<E>;

  // With cosines, what the backward needs is kept: each sine layer's output and derivative.
  SirenTile(const SirenCpuField& field, bool with_cosines)
      : field_(field),
        layout_(field.layout),
        net_(field.layout.net),
        packed_(static_cast<const T*>(field.packed)),
        with_cosines_(with_cosines),
        films_(2 * field.layout.films),
        points_(kSirenTileRows * field.layout.stride[0]),
        all_cosines_(with_cosines ? kSirenTileRows * field.layout.all_outputs() : 0),
        directions_(kSirenTileRows * kSirenCoordinates),
        all_outputs_(kSirenTileRows * field.layout.all_outputs()) {
    int64_t at = 0;
    for (int k = 0; k < net_.sine_layers(); ++k) {
      outputs_[k] = all_outputs_ + at;
      if (with_cosines) cosines_[k] = all_cosines_ + at;
      at += kSirenTileRows * layout_.stride[k + 1];
    }
  }

  // Loads g and h of an image; S is the dtype of gamma and beta.
  template <class S>
  void enter_image(int64_t image) {
    for (int k = 0; k < net_.sine_layers(); ++k) {
      const SirenCpuMap& map = layout_.sine[k];
      const int64_t at = image * net_.films + map.layer.film;
      for (int64_t j = 0; j < padded(map.layer.outputs); j += kLanes<T>) {
        const int64_t left = max(map.layer.outputs - j, 0);
        Vec<T> g = broadcast(T(1)), h = {};
        if (field_.gamma)
          g = T(net_.gamma_scale) * load_first(static_cast<const S*>(field_.gamma) + at + j, left) +
              T(net_.gamma_offset);
        if (field_.beta) h = T(net_.beta_scale) * load_first(static_cast<const S*>(field_.beta) + at + j, left);
        store(films_ + map.film + j, g);
        store(films_ + layout_.films + map.film + j, g * load(packed_ + map.bias + j) + h);
      }
    }
  }

  void set_point(int64_t row, T x, T y, T z) {
    T* to = points_ + row * layout_.stride[0];
    const T scale = T(net_.point_scale);
    to[0] = scale * x, to[1] = scale * y, to[2] = scale * z;
  }
  void set_direction(int64_t row, T x, T y, T z) {
    T* to = directions_ + row * kSirenCoordinates;
    to[0] = x, to[1] = y, to[2] = z;
  }

  // The sine layers of the first `rows` rows.
  void forward(int64_t rows) {
    if (with_cosines_) {
      sine_layers<true>(rows);
    } else {
      sine_layers<false>(rows);
    }
  }

  // After forward: density [rows] and features [rows, C] in any storage type.
  template <class S>
  void density(int64_t rows, S* to) const {
    const int trunk = net_.trunk_layers;
    const T *weight = density_weight(), bias = packed_[layout_.density.bias];
    for (int64_t r = 0; r < rows; ++r) {
      const E* x = output(trunk - 1) + r * layout_.stride[trunk];
      Vec<T> total = {};
      for (int64_t j = 0; j < net_.density.inputs; j += kLanes<T>) total += load(x + j) * load(weight + j);
      store_scalar(to + r, sum(total) + bias);
    }
  }
  template <class S>
  void features(int64_t rows, S* to) const {
    const SirenLayer& map = net_.feature;
    const int last = net_.sine_layers();
    const T* bias = packed_ + layout_.feature.bias;
    multiply(rows, map.inputs, map.outputs, output(last - 1), layout_.stride[last],
             panels_at<E>(packed_, layout_.feature.panels),
             [&](int64_t row, int64_t block_rows, int64_t column, const T* c) {
               for (int64_t j = column; j < min(map.outputs, column + kPanel<T>); j += kLanes<T>)
                 for (int64_t i = 0; i < block_rows; ++i)
                   store_first(to + (row + i) * map.outputs + j, map.outputs - j,
                               load(c + i * kPanel<T> + j - column) + load(bias + j));
             });
  }

  // For the backward. Rows of points have the layout's stride 0, rows of sine layer k its stride k + 1; the rows behind
  // the tile's hold anything.
  const T* points() const { return points_; }
  const E* output(int k) const { return outputs_[k]; }
  T* cosine(int k) const { return cosines_[k]; }
  const T* g(int k) const { return films_ + layout_.sine[k].film; }
  const T* density_weight() const { return packed_ + layout_.density.grad_panels; }  // one row: panels are in a line

 private:
  template <bool kWithCosine>
  void sine_layers(int64_t rows) {
    sine_layer<kWithCosine>(0, points(), rows);
    for (int k = 1; k < net_.sine_layers(); ++k) {
      if (k == net_.trunk_layers && net_.view_directions) append_directions(rows);
      sine_layer<kWithCosine>(k, output(k - 1), rows);
    }
  }

  template <bool kWithCosine, class Input>
  void sine_layer(int k, const Input* from, int64_t rows) {
    const SirenCpuMap& map = layout_.sine[k];
    const int64_t outputs = map.layer.outputs, stride = layout_.stride[k + 1];
    const T *g = films_ + map.film, *shift = g + layout_.films;
    E* to = outputs_[k];
    T* cosines = cosines_[k];
    multiply(rows, map.layer.inputs, outputs, from, layout_.stride[k], panels_at<Input>(packed_, map.panels),
             [&](int64_t row, int64_t, int64_t column, const T* c) {
               for (int v = 0; v < kPanel<T> && column + v < outputs; v += kLanes<T>) {
                 const int64_t at = row * stride + column + v;
                 const Vec<T> g_v = load(g + column + v), shift_v = load(shift + column + v);
                 for (int i = 0; i < kBlockRows; ++i) {  // all of a block: there is room behind the tile's last row
                   const Vec<T> phase = g_v * load(c + i * kPanel<T> + v) + shift_v;
                   if constexpr (kWithCosine) {
                     Vec<T> sine, cosine;
                     sin_cos(phase, sine, cosine);
                     store(to + at + i * stride, sine);
                     store(cosines + at + i * stride, cosine);
                   } else {
                     store(to + at + i * stride, sin(phase));
                   }
                 }
               }
             });
  }

  // Only now: whole vectors of the trunk's outputs reach over its last channel.
  void append_directions(int64_t rows) {
    const int trunk = net_.trunk_layers;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < kSirenCoordinates; ++i)
        store_scalar(outputs_[trunk - 1] + r * layout_.stride[trunk] + net_.last_trunk().outputs + i,
                     directions_[r * kSirenCoordinates + i]);
  }

  const SirenCpuField& field_;
  const SirenCpuLayout& layout_;
  const SirenNetwork& net_;
  const T* packed_;
  bool with_cosines_;
  Scratch<T> films_;  // g of all channels, then g * bias + h
  ZeroedScratch<T> points_, all_cosines_, directions_;
  ZeroedScratch<E> all_outputs_;
  E* outputs_[kSirenMostSineLayers] = {};
  T* cosines_[kSirenMostSineLayers] = {};
};

}  // namespace cips3d::CIPS3D_SIMD_NS
