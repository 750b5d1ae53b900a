// What modfc's CPU kernels do on either side of the matrix product: modulated rows in, activated vectors out.
#pragma once
#include "common/cpu_gemm.h"
#include "common/simd_math.h"
#include "modfc/modfc_cpu.h"

namespace cips3d::CIPS3D_SIMD_NS {
namespace {

// What follows the linear map, for a vector of one row: u = d * linear + noise + bias, y = clamp(gain * act(u)). A
// plain value: loops over rows work on their own copy, which the compiler keeps in registers.
template <class S>
struct Output {
  using T = Compute<S>;

  explicit Output(const ModfcCpuCall& call)
      : outputs(call.sizes.outputs),
        bias(static_cast<const S*>(call.bias)),
        noise(static_cast<const S*>(call.noise)),
        strides(call.noise_strides),
        all_demodulation(static_cast<const T*>(call.demodulation)),
        slope(broadcast(T(modfc_slope(call.options)))),
        gain(broadcast(T(call.options.gain))),
        limit(broadcast(T(call.options.clamp))),
        is_sine(call.options.activation == ModfcActivation::kSin),
        has_clamp(call.options.has_clamp) {}

  // Vectors of one sample's d and of the bias, columns j on.
  CIPS3D_INLINE Vec<T> demodulation_at(int64_t sample, int64_t j) const {
    return all_demodulation ? load_first(all_demodulation + sample * outputs + j, outputs - j) : broadcast(T(1));
  }
  CIPS3D_INLINE Vec<T> bias_at(int64_t j) const { return bias ? load_first(bias + j, outputs - j) : Vec<T>{}; }
  // The same of one output.
  CIPS3D_INLINE T demodulation_of(int64_t sample, int64_t o) const {
    return all_demodulation ? all_demodulation[sample * outputs + o] : T(1);
  }
  CIPS3D_INLINE T bias_of(int64_t o) const { return bias ? load_scalar(bias + o) : T(0); }

  // The noise of one point, outputs j on, and of one output, `count` points on.
  CIPS3D_INLINE Vec<T> noise_at(int64_t sample, int64_t point, int64_t j) const {
    return noise_along(strides.outputs, sample, point, j, outputs - j);
  }
  CIPS3D_INLINE Vec<T> noise_of_points(int64_t sample, int64_t point, int64_t j, int64_t count) const {
    return noise_along(strides.points, sample, point, j, count);
  }
  CIPS3D_INLINE Vec<T> noise_along(int64_t stride, int64_t sample, int64_t point, int64_t j, int64_t count) const {
    if (!noise) return Vec<T>{};
    const S* p = noise + sample * strides.batch + point * strides.points + j * strides.outputs;
    if (stride == 1) return load_first(p, count);
    if (stride == 0) return broadcast(load_scalar(p));
    Vec<T> v = {};
    for (int64_t lane = 0; lane < min(kLanes<T>, count); ++lane) v[lane] = load_scalar(p + lane * stride);
    return v;
  }

  CIPS3D_INLINE Vec<T> activate(Vec<T> u) const {
    const Vec<T> v = gain * (is_sine ? sin(u) : modfc_piecewise_linear(u, slope));
    return has_clamp ? modfc_clamp(v, limit) : v;
  }
  CIPS3D_INLINE Vec<T> gradient(Vec<T> u, Vec<T> grad_y) const {
    Vec<T> value, derivative;
    if (is_sine) {
      sin_cos(u, value, derivative);
    } else {
      value = modfc_piecewise_linear(u, slope);
      derivative = modfc_piecewise_linear_grad(u, slope, broadcast(T(1)));
    }
    const Vec<T> grad_v = has_clamp ? modfc_clamp_grad(grad_y, gain * value, limit) : grad_y;
    return grad_v * gain * derivative;
  }

  // The piece of act and clamp that u is in, where act is piecewise linear, and grad_u from it.
  CIPS3D_INLINE Mask<T> branch(Vec<T> u) const {
    const Mask<T> below = u > 0 ? Mask<T>{} : Mask<T>{} + kModfcBelow;
    if (!has_clamp) return below;
    const Vec<T> v = gain * modfc_piecewise_linear(u, slope);
    return below | ((v > limit) | (v < -limit) ? Mask<T>{} + kModfcCut : Mask<T>{});
  }
  CIPS3D_INLINE Vec<T> gradient_in_branch(Mask<T> branch, Vec<T> grad_y) const {
    const Vec<T> grad_u = grad_y * gain * ((branch & kModfcBelow) != 0 ? slope : broadcast(T(1)));
    return (branch & kModfcCut) != 0 ? Vec<T>{} : grad_u;
  }

  int64_t outputs;
  const S *bias, *noise;
  ModfcNoiseStrides strides;
  const T* all_demodulation;
  Vec<T> slope, gain, limit;
  bool is_sine, has_clamp;
};

// m = scale * (style + style_offset) of one sample, padded with zeros.
template <class S>
void load_modulation(const ModfcCpuCall& call, int64_t sample, Compute<S>* m) {
  using T = Compute<S>;
  const T scale = T(call.options.scale), offset = T(call.options.style_offset);
  const int64_t inputs = call.sizes.inputs;
  const S* style = static_cast<const S*>(call.style) + sample * inputs;
  for (int64_t k = 0; k < inputs; k += kLanes<T>) {
    // Zeroes what lies past the end: a lane there would hold scale * offset.
    const Vec<T> v = scale * (load_first(style + k, inputs - k) + offset);
    store(m + k, Vec<T>{});
    store_first(m + k, inputs - k, v);
  }
}

// The modulations of a tile of samples, and their squares as rows for a product, both padded with zeros.
template <class S>
class SampleTile {
 public:
  using T = Compute<S>;
  using E = Operand<S>;

  explicit SampleTile(const ModfcCpuCall& call)
      : call_(call),
        modulations_(kTileRows * padded(call.sizes.inputs)),
        squares_(kTileRows * row_stride(call.sizes.inputs)) {}

  void enter(int64_t tile) {
    const int64_t inputs = call_.sizes.inputs;
    for (int64_t r = 0; r < call_.sample_tiles().rows_in(tile); ++r) {
      T* m = modulations_ + r * padded(inputs);
      load_modulation<S>(call_, tile * kTileRows + r, m);
      for (int64_t k = 0; k < inputs; k += kLanes<T>)
        store(squares_ + r * row_stride(inputs) + k, load(m + k) * load(m + k));
    }
  }

  const T* modulation(int64_t row) const { return modulations_ + row * padded(call_.sizes.inputs); }
  const E* squares() const { return squares_; }

 private:
  const ModfcCpuCall& call_;
  Scratch<T> modulations_;
  ZeroedScratch<E> squares_;
};

// A tile's rows times their samples' modulations as operands, padded with zeros; the modulations stay for the backward.
template <class S>
class ModulatedTile {
 public:
  using T = Compute<S>;
  using E = Operand<S>;

  explicit ModulatedTile(const ModfcCpuCall& call)
      : call_(call),
        rows_(call.tiles()),
        modulations_(call.tiles().samples_per_tile() * padded(call.sizes.inputs)),
        x_(kTileRows * row_stride(call.sizes.inputs)) {}

  void enter(int64_t tile) {
    const RowTiles tiles = call_.tiles();
    const int64_t inputs = call_.sizes.inputs;
    rows_.enter(tile);
    for (int64_t sample = tiles.first_sample(tile); sample <= tiles.last_sample(tile); ++sample)
      load_modulation<S>(call_, sample, modulations_ + (sample - rows_.first_sample()) * padded(inputs));
    const S* x = static_cast<const S*>(call_.x) + tile * kTileRows * inputs;
    for (int64_t r = 0; r < tiles.rows_in(tile); ++r) {
      const T* m = modulation(rows_.sample_of(r));
      E* to = x_ + r * row_stride(inputs);
      int64_t k = 0;
      for (; k + kLanes<T> <= inputs; k += kLanes<T>) store(to + k, load(x + r * inputs + k) * load(m + k));
      if (k < inputs) store(to + k, load_first(x + r * inputs + k, inputs - k) * load(m + k));
    }
  }

  const TileRows& rows() const { return rows_; }
  const T* modulation(int64_t sample) const {
    return modulations_ + (sample - rows_.first_sample()) * padded(call_.sizes.inputs);
  }
  const E* x() const { return x_; }

 private:
  const ModfcCpuCall& call_;
  TileRows rows_;
  Scratch<T> modulations_;
  ZeroedScratch<E> x_;
};

}  // namespace
}  // namespace cips3d::CIPS3D_SIMD_NS
