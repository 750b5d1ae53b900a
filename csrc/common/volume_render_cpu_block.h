// A block of rays on the CPU, one ray a lane: what the forward and the backward kernel of volume_render share.
//
// Everything along rays (densities, depths, weights and their gradients) is kept in rows: row i holds sample or
// interval i of all rays of the block, so that the recurrence over i runs for a whole vector of rays at once.
#pragma once
#include "common/ray_tasks.h"
#include "common/simd.h"
#include "common/simd_math.h"

namespace cips3d::CIPS3D_SIMD_NS {

// The Math of volume_render_math.h for vectors.
struct VectorMath {
  template <class V>
  static CIPS3D_INLINE V exp(V x) {
    return CIPS3D_SIMD_NS::exp(x);
  }
  template <class V>
  static CIPS3D_INLINE V log1p(V x) {
    return CIPS3D_SIMD_NS::log1p(x);
  }
  // Relative error 4e-7: exp's own polynomial where exp(x) - 1 would cancel.
  static CIPS3D_INLINE Vec<float> expm1(Vec<float> x) {
    constexpr float kHalfLog2 = 0.34657359f;  // up to here exp does not reduce its argument
    Vec<float> q = x * 1.9875691500e-4f + 1.3981999507e-3f;
    q = q * x + 8.3334519073e-3f;
    q = q * x + 4.1665795894e-2f;
    q = q * x + 1.6666665459e-1f;
    q = q * x + 5.0000001201e-1f;
    const Vec<float> near_zero = q * (x * x) + x, far = exp(x) - 1.0f;
    return (x < kHalfLog2) & (x > -kHalfLog2) ? near_zero : far;
  }
  static CIPS3D_INLINE Vec<double> expm1(Vec<double> x) {
    for (int i = 0; i < kLanes<double>; ++i) x[i] = ::expm1(x[i]);
    return x;
  }
  template <class V>
  static CIPS3D_INLINE V fill(double x) {
    return broadcast(static_cast<decltype(V{}[0] + 0)>(x));
  }
  template <class M, class V>
  static CIPS3D_INLINE V select(M mask, V yes, V no) {
    return mask ? yes : no;
  }
};

template <class T>
struct Rows {
  T* data;

  CIPS3D_INLINE Vec<T> get(int64_t i) const { return load(data + i * kLanes<T>); }
  CIPS3D_INLINE void set(int64_t i, Vec<T> v) const { store(data + i * kLanes<T>, v); }
  CIPS3D_INLINE void add(int64_t i, Vec<T> v) const { set(i, get(i) + v); }
  // The value of interval i: sample i, or the mean of samples i and i + 1; and the transpose of that.
  CIPS3D_INLINE Vec<T> interval(bool midpoint, int64_t i) const {
    return midpoint ? T(0.5) * (get(i) + get(i + 1)) : get(i);
  }
  CIPS3D_INLINE void add_interval(bool midpoint, int64_t i, Vec<T> v) const {
    add(i, midpoint ? T(0.5) * v : v);
    if (midpoint) add(i + 1, T(0.5) * v);
  }
};

template <class T>
CIPS3D_INLINE Mask<T> lanes_below(int64_t count) {
  Mask<T> lane;
  for (int i = 0; i < kLanes<T>; ++i) lane[i] = i;
  return lane < static_cast<decltype(lane[0] + 0)>(min(max(count, 0), kLanes<T>));
}

// The first `count` values at p, zero behind them, where the array goes on until `end`: one load wherever the array
// allows.
template <class S>
CIPS3D_INLINE Vec<Compute<S>> load_part(const S* p, const S* end, int64_t count) {
  using T = Compute<S>;
  if (count >= kLanes<T>) return load(p);
  if (end - p < kLanes<T>) return load_first(p, count);
  return lanes_below<T>(count) ? load(p) : Vec<T>{};
}

// Writes the first `count` values, and anything behind them where the thread's part of the array goes on until `end`:
// rays and samples are written in increasing order, so the next ones overwrite it.
template <class S, class V>
CIPS3D_INLINE void store_part(S* p, S* end, int64_t count, V v) {
  if (end - p >= kLanes<Compute<S>>) return store(p, v);
  store_first(p, count, v);
}

// rows[i] = ray i of `array`, rays [first, first + rays) of [total,count] values; zero in the lanes that are left.
// `line` holds a ray's values, up to a whole number of vectors.
template <class S, class T = Compute<S>>
CIPS3D_INLINE void read_rows(const void* array, int64_t total, int64_t first, int64_t rays, int64_t count, T* line,
                             Rows<T> rows) {
  const S *from = static_cast<const S*>(array) + first * count, *end = static_cast<const S*>(array) + total * count;
  for (int64_t ray = 0; ray < kLanes<T>; ++ray) {
    const S* values = from + ray * count;
    for (int64_t i = 0; i < count; i += kLanes<T>)
      store(line + i, ray < rays ? load_part(values + i, end, count - i) : Vec<T>{});
    for (int64_t i = 0; i < count; ++i) rows.data[i * kLanes<T> + ray] = line[i];
  }
}

// The transpose: writes rays [first, first + rays) of a thread's share, which ends before ray `share_end`.
template <class S, class T = Compute<S>>
CIPS3D_INLINE void write_rows(Rows<T> rows, int64_t first, int64_t rays, int64_t share_end, int64_t count, T* line,
                              void* array) {
  S *to = static_cast<S*>(array) + first * count, *end = static_cast<S*>(array) + share_end * count;
  for (int64_t ray = 0; ray < rays; ++ray) {
    for (int64_t i = 0; i < count; ++i) line[i] = rows.data[i * kLanes<T> + ray];
    for (int64_t i = 0; i < count; i += kLanes<T>) store_part(to + ray * count + i, end, count - i, load(line + i));
  }
}

template <class T>
class RayBlock {
 public:
  static constexpr int kRowSets = 5;

  // Works in kRowSets sets of rows at `memory`.
  RayBlock(const VolumeRenderInputs& inputs, T* memory)
      : inputs_(inputs),
        options_(inputs.options),
        intervals_(inputs.sizes.intervals),
        u{memory},
        z{u.data + inputs.sizes.samples * kLanes<T>},
        passed{z.data + inputs.sizes.samples * kLanes<T>},
        trans{passed.data + inputs.sizes.samples * kLanes<T>},
        weight{trans.data + inputs.sizes.samples * kLanes<T>} {}

  // Reads rays [first, first + rays) and computes their weights.
  template <class S>
  CIPS3D_INLINE void compute(int64_t first, int64_t rays, T* line) {
    const auto read = [&](const void* array, Rows<T> rows) __attribute__((always_inline)) {
      read_rows<S>(array, inputs_.sizes.rays, first, rays, inputs_.sizes.samples, line, rows);
    };
    read(inputs_.density, u);
    if (inputs_.noise) {
      read(inputs_.noise, z);
      for (int64_t i = 0; i < inputs_.sizes.samples; ++i) u.add(i, z.get(i));
    }
    read(inputs_.depths, z);
    norm = inputs_.ray_norm ? load_first(static_cast<const S*>(inputs_.ray_norm) + first, rays) : broadcast(T(1));
    beta = inputs_.beta ? broadcast(load_scalar(static_cast<const S*>(inputs_.beta))) : broadcast(T(options_.beta));
    weigh();
  }

  CIPS3D_INLINE bool appended(int64_t i) const { return !options_.midpoint && i == intervals_ - 1; }
  CIPS3D_INLINE bool last(int64_t i) const { return i == intervals_ - 1; }

  // The activation's argument, the length before the ray norm, and what the norm does to it.
  CIPS3D_INLINE Vec<T> argument(int64_t i) const { return u.interval(options_.midpoint, i) + T(options_.shift); }
  CIPS3D_INLINE Vec<T> length(int64_t i) const {
    const Vec<T> here = z.get(i);
    return interval_length<VectorMath>(options_, appended(i), here, appended(i) ? here : z.get(i + 1));
  }
  CIPS3D_INLINE Vec<T> norm_of(int64_t i) const { return norm_applies(options_, appended(i)) ? norm : broadcast(T(1)); }

  // The weight of interval i before last_back.
  CIPS3D_INLINE Vec<T> own_weight(int64_t i) const { return last(i) ? last_weight : weight.get(i); }

  // One ray's weights, [samples]: those of the intervals, shared among the two samples of each by the midpoint rule.
  CIPS3D_INLINE void sample_weights(int64_t ray, T* to) const {
    for (int64_t i = 0; i < intervals_; ++i) to[i] = weight.data[i * kLanes<T> + ray];
    if (!options_.midpoint) return;
    to[intervals_] = T(0.5) * to[intervals_ - 1];
    for (int64_t i = intervals_ - 1; i > 0; --i) to[i] = T(0.5) * (to[i] + to[i - 1]);
    to[0] *= T(0.5);
  }

 private:
  CIPS3D_INLINE void weigh() {
    Vec<T> transmittance = broadcast(T(1));
    accumulation = weighted_depth = Vec<T>{};
    for (int64_t i = 0; i < intervals_; ++i) {
      const Vec<T> sigma = activate<VectorMath>(options_.activation, argument(i), beta);
      Absorption<Vec<T>> absorption = absorb<VectorMath>(sigma * (length(i) * norm_of(i)));
      if (last(i) && options_.has_last_alpha) absorption.alpha = broadcast(T(options_.last_alpha));
      const Vec<T> w = absorption.alpha * transmittance;
      passed.set(i, absorption.passed);
      trans.set(i, transmittance);
      weight.set(i, w);
      accumulation += w;
      weighted_depth += w * z.interval(options_.midpoint, i);
      transmittance *= absorption.passed + T(options_.trans_eps);
    }
    rest = options_.last_back ? T(1) - accumulation : Vec<T>{};
    last_weight = weight.get(intervals_ - 1);
    weight.add(intervals_ - 1, rest);
    weighted_depth += rest * z.interval(options_.midpoint, intervals_ - 1);
    total = accumulation + rest;
  }

  const VolumeRenderInputs& inputs_;
  const VolumeRenderOptions options_;
  const int64_t intervals_;

 public:
  // Rows of samples: density + noise, depths. Rows of intervals: e, T and the weights with last_back.
  Rows<T> u, z, passed, trans, weight;
  // One value a ray; rest is what last_back gives the last weight, total the sum of all weights with it.
  Vec<T> norm, beta, accumulation, rest, last_weight, total, weighted_depth;
};

}  // namespace cips3d::CIPS3D_SIMD_NS
