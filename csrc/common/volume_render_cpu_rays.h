// Volume rendering of rays on the CPU, forward and backward.
//
// Computes  volume_render_math.h, with all of its options
// Axes      density, depths [rays,S]; features [rays,S,C]; a block is kLanes rays
// Launch    each thread takes a contiguous share of the rays, block by block; working memory is one block's rows
// Traffic   features are read once, forward and backward; their gradient is written once
// Numerics  weights with rays along lanes, features with channels along lanes; 16-bit types are computed in float
// Limit     memory bandwidth of the features for C >= 16, the exponentials below
#pragma once
#include "common/cpu_destination.h"
#include "common/volume_render_cpu_block.h"

namespace cips3d::CIPS3D_SIMD_NS {

// Vectors of channels that the forward keeps in registers.
constexpr int kChannelVectors = 4;

// Behind the last sample's last channel.
template <class S>
CIPS3D_INLINE const S* end_of_features(const S* features, const VolumeRenderSizes& sizes) {
  return features + (sizes.rays * sizes.samples - 1) * sizes.feature_stride + sizes.channels;
}

// ---- forward
// ---------------------------------------------------------------------------------------------------------

// One ray's feature, channels [first_channel, first_channel + up to N vectors).
template <int N, class S, class T = Compute<S>>
CIPS3D_INLINE void render_channels(const VolumeRenderInputs& in, const S* features, const S* end, const T* weights,
                                   T white, int64_t first_channel, S* feature, S* feature_end) {
  const int64_t channels = in.sizes.channels;
  const int64_t tail = first_channel + (N - 1) * kLanes<T>;  // only the last vector can be a part
  Vec<T> sums[N];
#pragma GCC unroll 4
  for (int k = 0; k < N; ++k) {
    const Mask<T> is_white = lanes_below<T>(in.options.white_channels - first_channel - k * kLanes<T>);
    sums[k] = is_white ? broadcast(white) : Vec<T>{};
  }
  for (int64_t i = 0; i < in.sizes.samples; ++i) {
    const S* sample = features + i * in.sizes.feature_stride;
#pragma GCC unroll 4
    for (int k = 0; k < N - 1; ++k) sums[k] += weights[i] * load(sample + first_channel + k * kLanes<T>);
    sums[N - 1] += weights[i] * load_part(sample + tail, end, channels - tail);
  }
  const T scale = T(in.options.feature_scale), shift = T(in.options.feature_shift);
#pragma GCC unroll 4
  for (int k = 0; k < N; ++k) {
    const int64_t channel = first_channel + k * kLanes<T>;
    store_part(feature + channel, feature_end, channels - channel, scale * sums[k] + shift);
  }
}

template <class S, class T = Compute<S>>
CIPS3D_INLINE void render_feature(const VolumeRenderInputs& in, const S* features, const S* end, const T* weights,
                                  T white, S* feature, S* feature_end) {
  for (int64_t channel = 0; channel < in.sizes.channels; channel += kChannelVectors * kLanes<T>) {
    const int64_t vectors = (in.sizes.channels - channel + kLanes<T> - 1) / kLanes<T>;
    if (vectors >= 4) {
      render_channels<4>(in, features, end, weights, white, channel, feature, feature_end);
    } else if (vectors == 3) {
      render_channels<3>(in, features, end, weights, white, channel, feature, feature_end);
    } else if (vectors == 2) {
      render_channels<2>(in, features, end, weights, white, channel, feature, feature_end);
    } else {
      render_channels<1>(in, features, end, weights, white, channel, feature, feature_end);
    }
  }
}

template <class S>
void volume_render_forward(const VolumeRenderForwardTask& task, int64_t begin, int64_t end) {
  using T = Compute<S>;
  const VolumeRenderInputs& in = task.inputs;
  const VolumeRenderSizes& sizes = in.sizes;
  const Scratch<T> rows(RayBlock<T>::kRowSets * sizes.samples * kLanes<T>);
  const Scratch<T> line_memory(round_up(sizes.samples, kLanes<T>));
  T* const line = line_memory;
  S* const feature = static_cast<S*>(task.feature);
  const S* features = static_cast<const S*>(in.features);
  const S* features_end = end_of_features(features, sizes);
  for (int64_t first = begin; first < end; first += kLanes<T>) {
    const int64_t rays = min(kLanes<T>, end - first);
    RayBlock<T> block(in, rows);
    block.template compute<S>(first, rays, line);

    write_rows<S>(block.weight, first, rays, end, sizes.intervals, line, task.weights);
    store_first(static_cast<S*>(task.depth) + first, rays,
                ray_depth<VectorMath>(in.options, block.weighted_depth, block.total));
    store_first(static_cast<S*>(task.transmittance) + first, rays, block.trans.get(sizes.intervals - 1));
    store_first(static_cast<S*>(task.accumulation) + first, rays, block.accumulation);
    for (int64_t ray = 0; ray < rays; ++ray) {
      block.sample_weights(ray, line);
      render_feature(in, features + (first + ray) * sizes.samples * sizes.feature_stride, features_end,
                     static_cast<const T*>(line), T(1) - block.accumulation[ray],
                     feature + (first + ray) * sizes.channels, feature + end * sizes.channels);
    }
  }
}

// ---- backward
// --------------------------------------------------------------------------------------------------------

enum class Writing { kNone, kParts, kStream };

// Of one ray, grad_features[i] = weights[i] * grad and dots[i] = sum_c grad_c features_ic, a column of rows. `grad` is
// feature_scale times the feature's gradient, zero behind the channels up to a whole number of vectors.
template <Writing kWriting, class S, class T = Compute<S>>
CIPS3D_INLINE void feature_gradients(const VolumeRenderSizes& sizes, const S* features, const S* features_end,
                                     const T* grad, const T* weights, T* dots, S* grad_features, S* grad_end) {
  const int64_t channels = sizes.channels;
  for (int64_t i = 0; i < sizes.samples; ++i) {
    const S* sample = features + i * sizes.feature_stride;
    S* written = grad_features + i * channels;
    Vec<T> dot{};
    for (int64_t c = 0; c < channels; c += kLanes<T>) {
      const Vec<T> g = load(grad + c);
      dot += g * load_part(sample + c, features_end, channels - c);
      if constexpr (kWriting == Writing::kStream && kCanStream<S>) stream(written + c, weights[i] * g);
      if constexpr (kWriting == Writing::kParts) store_part(written + c, grad_end, channels - c, weights[i] * g);
    }
    dots[i * kLanes<T>] = sum(dot);
  }
}

// The backward pass of one block: gradients of its rays' weights, then of what they were computed from.
template <class S>
class BackwardBlock {
 public:
  using T = Compute<S>;
  static constexpr int kRowSets = 3;

  BackwardBlock(const VolumeRenderBackwardTask& task, const RayBlock<T>& block, T* memory, int64_t first, int64_t rays,
                int64_t share_end)
      : task_(task),
        options_(task.inputs.options),
        sizes_(task.inputs.sizes),
        block_(block),
        first_(first),
        rays_(rays),
        share_end_(share_end),
        grad_weight_{memory},
        grad_u_{grad_weight_.data + sizes_.samples * kLanes<T>},
        grad_z_{grad_u_.data + sizes_.samples * kLanes<T>} {}

  // Gradients of features, and what the feature output sends to the weights of samples (rows grad_weight) and to the
  // white background.
  CIPS3D_INLINE void features(Writing writing, T* grad, T* weights) {
    grad_white_ = Vec<T>{};
    const int64_t ray_size = sizes_.samples * sizes_.channels, ray_stride = sizes_.samples * sizes_.feature_stride;
    const S* all = static_cast<const S*>(task_.inputs.features);
    S* all_grads = static_cast<S*>(task_.grad_features);
    for (int64_t ray = 0; ray < rays_; ++ray) {
      const int64_t at = first_ + ray;
      grad_white_[ray] = scaled_gradient(at, grad);
      block_.sample_weights(ray, weights);
      T* dots = grad_weight_.data + ray;
      const S *from = all + at * ray_stride, *end = end_of_features(all, sizes_);
      S *to = all_grads + at * ray_size, *to_end = all_grads + share_end_ * ray_size;
      if (writing == Writing::kStream) {
        feature_gradients<Writing::kStream, S>(sizes_, from, end, grad, weights, dots, to, to_end);
      } else if (writing == Writing::kParts) {
        feature_gradients<Writing::kParts, S>(sizes_, from, end, grad, weights, dots, to, to_end);
      } else {
        feature_gradients<Writing::kNone, S>(sizes_, from, end, grad, weights, dots, to, to_end);
      }
    }
  }

  // Gradients along the rays; returns the part of beta's.
  CIPS3D_INLINE double rays(T* line) {
    collect_weight_gradients(line);
    const Vec<T> grad_trans = row(task_.grad_transmittance) * block_.trans.get(sizes_.intervals - 1);
    Vec<T> behind{}, grad_beta{}, grad_norm{};  // behind: what the intervals after i send to their transmittance
    for (int64_t i = sizes_.intervals - 1; i >= 0; --i) {
      const Vec<T> passed = block_.passed.get(i), g = grad_weight_.get(i);
      const Vec<T> share = passed_share<VectorMath>(passed, broadcast(T(options_.trans_eps)));
      const bool fixed = block_.last(i) && options_.has_last_alpha;
      const Vec<T> grad_x = fixed ? Vec<T>{} : g * block_.trans.get(i) * passed - behind * share;
      behind += g * block_.own_weight(i);
      if (block_.last(i)) behind += grad_trans;
      grad_beta += density_gradient(i, grad_x);
      grad_norm += length_gradient(i, grad_x);
    }
    write(grad_u_, line, task_.grad_density);
    write(grad_z_, line, task_.grad_depths);
    if (task_.grad_ray_norm) store_first(static_cast<S*>(task_.grad_ray_norm) + first_, rays_, grad_norm);
    return static_cast<double>(sum(lanes_below<T>(rays_) ? grad_beta : Vec<T>{}));
  }

 private:
  CIPS3D_INLINE Vec<T> row(const void* per_ray) const {
    return per_ray ? load_first(static_cast<const S*>(per_ray) + first_, rays_) : Vec<T>{};
  }
  CIPS3D_INLINE void write(Rows<T> rows, T* line, void* to) const {
    if (to) write_rows<S>(rows, first_, rays_, share_end_, sizes_.samples, line, to);
  }

  // Fills `grad` for ray `at`; returns the sum over the channels with white background.
  CIPS3D_INLINE T scaled_gradient(int64_t at, T* grad) const {
    Vec<T> white{};
    for (int64_t c = 0; c < sizes_.channels; c += kLanes<T>) {
      const S* from = static_cast<const S*>(task_.grad_feature) + at * sizes_.channels + c;
      const Vec<T> g =
          T(options_.feature_scale) * (task_.grad_feature ? load_first(from, sizes_.channels - c) : Vec<T>{});
      store(grad + c, g);
      white += lanes_below<T>(options_.white_channels - c) ? g : Vec<T>{};
    }
    return sum(white);
  }

  // grad_weight: from dL/d(weights of samples) to dL/d(weights of intervals before last_back), all outputs together;
  // grad_z: what the depth output sends to the depths.
  CIPS3D_INLINE void collect_weight_gradients(T* line) {
    const bool midpoint = options_.midpoint;
    const DepthSlope<Vec<T>> slope = ray_depth_slope<VectorMath>(options_, block_.weighted_depth, block_.total);
    const Vec<T> grad_depth = row(task_.grad_depth) * slope.scale;
    const Vec<T> origin = options_.expected_depth ? slope.origin : Vec<T>{};
    if (task_.grad_weights)
      read_rows<S>(task_.grad_weights, sizes_.rays, first_, rays_, sizes_.intervals, line, grad_u_);
    for (int64_t i = 0; i < sizes_.intervals; ++i) {
      Vec<T> g = grad_weight_.interval(midpoint, i) + grad_depth * (block_.z.interval(midpoint, i) - origin);
      if (task_.grad_weights) g += grad_u_.get(i);
      grad_weight_.set(i, g);
    }
    const Vec<T> of_last = options_.last_back ? grad_weight_.get(sizes_.intervals - 1) : Vec<T>{};
    const Vec<T> of_accumulation = row(task_.grad_accumulation) - grad_white_ - of_last;
    for (int64_t i = 0; i < sizes_.samples; ++i) {
      grad_u_.set(i, Vec<T>{});
      grad_z_.set(i, Vec<T>{});
    }
    for (int64_t i = 0; i < sizes_.intervals; ++i) {
      grad_weight_.add(i, of_accumulation);
      grad_z_.add_interval(midpoint, i, grad_depth * block_.weight.get(i));
    }
  }

  // From dL/dx_i to the density; returns the part of beta's gradient.
  CIPS3D_INLINE Vec<T> density_gradient(int64_t i, Vec<T> grad_x) {
    if (block_.last(i) && last_density_is_constant(options_)) return Vec<T>{};
    const Vec<T> grad_sigma = grad_x * (block_.length(i) * block_.norm_of(i));
    const auto slope = activation_slope<VectorMath>(options_.activation, block_.argument(i), block_.beta);
    grad_u_.add_interval(options_.midpoint, i, grad_sigma * slope.u);
    return grad_sigma * slope.beta;
  }

  // From dL/dx_i to the depths on both sides; returns the part of the ray norm's gradient.
  CIPS3D_INLINE Vec<T> length_gradient(int64_t i, Vec<T> grad_x) {
    const Vec<T> grad = grad_x * activate<VectorMath>(options_.activation, block_.argument(i), block_.beta);
    const bool appended = block_.appended(i);
    if (!options_.unit_delta && (!appended || options_.has_far)) {
      grad_z_.add(i, -grad * block_.norm_of(i));
      if (!appended) grad_z_.add(i + 1, grad * block_.norm_of(i));
    }
    return norm_applies(options_, appended) ? grad * block_.length(i) : Vec<T>{};
  }

  const VolumeRenderBackwardTask& task_;
  const VolumeRenderOptions& options_;
  const VolumeRenderSizes& sizes_;
  const RayBlock<T>& block_;
  const int64_t first_, rays_, share_end_;
  const Rows<T> grad_weight_, grad_u_, grad_z_;
  Vec<T> grad_white_;
};

template <class S>
double volume_render_backward(const VolumeRenderBackwardTask& task, int64_t begin, int64_t end) {
  using T = Compute<S>;
  const VolumeRenderInputs& in = task.inputs;
  const int64_t row_set = in.sizes.samples * kLanes<T>;
  const Scratch<T> rows(RayBlock<T>::kRowSets * row_set), grad_rows(BackwardBlock<S>::kRowSets * row_set);
  const Scratch<T> line_memory(round_up(in.sizes.samples, kLanes<T>)), grad(round_up(in.sizes.channels, kLanes<T>));
  T* const line = line_memory;
  const Destination<S> grad_features(task.grad_features, in.sizes.rays * in.sizes.samples, in.sizes.channels);
  const Writing writing = !grad_features.array        ? Writing::kNone
                          : grad_features.past_caches ? Writing::kStream
                                                      : Writing::kParts;
  double grad_beta = 0;
  for (int64_t first = begin; first < end; first += kLanes<T>) {
    const int64_t rays = min(kLanes<T>, end - first);
    RayBlock<T> block(in, rows);
    block.template compute<S>(first, rays, line);
    BackwardBlock<S> gradients(task, block, grad_rows, first, rays, end);
    gradients.features(writing, grad, line);
    grad_beta += gradients.rays(line);
  }
  grad_features.finish();
  return grad_beta;
}

}  // namespace cips3d::CIPS3D_SIMD_NS
