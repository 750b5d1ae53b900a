// Volume rendering along one ray, as scalar math for host and device.
//
//   u_i     = density_i + noise_i + shift                          rule midpoint: mean of samples i and i + 1
//   sigma_i = activate(u_i)                                        none | relu | softplus | sdf
//   x_i     = sigma_i * delta_i                                    optical depth of interval i, see interval_length
//   e_i     = exp(-x_i),  alpha_i = 1 - e_i = -expm1(-x_i)
//   T_0     = 1,  T_{i+1} = T_i * (e_i + trans_eps)                transmittance before interval i
//   w_i     = alpha_i * T_i
//
// Gradients. With g_i = dL/dw_i, and g_T = dL/dT_{N-1} for the transmittance output,
//
//   dL/dx_i = g_i T_i e_i - (sum_{k>i} g_k w_k + [i < N-1] g_T T_{N-1}) * e_i / (e_i + trans_eps)
//
// is a running sum from the last interval to the first. Nothing is divided by 1 - alpha, which is 0 behind an opaque
// sample.
//
// Everything is written over a number type Num and a Math that supplies exp, expm1, log1p, fill and select for it:
// ScalarMath for float and double, the vector math of the CPU kernels for lanes of rays.
#pragma once
#include <cmath>
#include <cstdint>

#include "common/host_device.h"

namespace cips3d {

enum class DensityActivation : int { kNone, kRelu, kSoftplus, kSdf };

// An appended interval at least this long stands for infinity: its opacity is a switch (0 or 1), and its density has no
// gradient.
constexpr double kInfiniteDelta = 1e9;

// The options of the op, resolved: plain values, passed to kernels by value.
struct VolumeRenderOptions {
  DensityActivation activation;
  double shift;
  double beta;        // sharpness (softplus) or width (sdf); a beta tensor's element overrides it
  bool midpoint;      // samples are averaged over neighbours: samples - 1 intervals, nothing appended
  double last_delta;  // length of the interval appended after the last sample (rule left)
  bool has_far;       // the appended interval ends at `far` instead
  double far;
  bool unit_delta;      // every interval has length 1, whatever the depths
  bool norm_last;       // ray_norm scales the appended interval too
  bool has_last_alpha;  // alpha of the last interval is `last_alpha`
  double last_alpha;
  double trans_eps;
  bool last_back;          // the last weight gets what is missing to 1
  int64_t white_channels;  // the first so many feature channels get white background: 0 .. channels
  bool expected_depth;     // depth is divided by the sum of the weights
  double feature_scale;
  double feature_shift;
};

// What a call gets that names no option: an infinite last interval, plain sums.
inline VolumeRenderOptions volume_render_defaults() {
  VolumeRenderOptions options{};
  options.activation = DensityActivation::kRelu;
  options.beta = 1;
  options.last_delta = 1e10;
  options.norm_last = true;
  options.trans_eps = 1e-10;
  options.feature_scale = 1;
  return options;
}

// [batch * rays] rays of `samples` samples with `channels` features each (0 when there are no features).
struct VolumeRenderSizes {
  int64_t rays;
  int64_t samples;
  int64_t channels;
  int64_t intervals;       // samples (rule left) or samples - 1 (rule midpoint)
  int64_t feature_stride;  // from one sample's features to the next one's: channels, or more in a slice of wider rows
};

// Where the interval appended by rule left stands for infinity, its density is a constant to gradients.
CIPS3D_HOST_DEVICE bool last_density_is_constant(const VolumeRenderOptions& o) {
  return !o.midpoint && !o.has_far && !o.unit_delta && o.last_delta >= kInfiniteDelta;
}

struct ScalarMath {
  static CIPS3D_HOST_DEVICE float exp(float x) { return ::expf(x); }
  static CIPS3D_HOST_DEVICE double exp(double x) { return ::exp(x); }
  static CIPS3D_HOST_DEVICE float expm1(float x) { return ::expm1f(x); }
  static CIPS3D_HOST_DEVICE double expm1(double x) { return ::expm1(x); }
  static CIPS3D_HOST_DEVICE float log1p(float x) { return ::log1pf(x); }
  static CIPS3D_HOST_DEVICE double log1p(double x) { return ::log1p(x); }
  template <class Num>
  static CIPS3D_HOST_DEVICE Num fill(double x) {
    return Num(x);
  }
  template <class Num>
  static CIPS3D_HOST_DEVICE Num select(bool condition, Num yes, Num no) {
    return condition ? yes : no;
  }
};

// Logistic function of x; exp only sees arguments <= 0, so nothing overflows.
template <class Math = ScalarMath, class Num>
CIPS3D_HOST_DEVICE Num sigmoid(Num x) {
  const auto negative = x < 0;
  const Num decay = Math::exp(Math::select(negative, x, -x));
  return Math::select(negative, decay, Num{} + 1) / (1 + decay);
}

// sigma of u. A NaN stays a NaN.
template <class Math = ScalarMath, class Num>
CIPS3D_HOST_DEVICE Num activate(DensityActivation activation, Num u, Num beta) {
  const Num zero{};
  switch (activation) {
    case DensityActivation::kRelu:
      return Math::select(u <= 0, zero, u);
    case DensityActivation::kSoftplus: {  // log(1 + exp(beta u)) / beta, without overflow
      const Num v = beta * u;
      return (Math::select(v <= 0, zero, v) + Math::log1p(Math::exp(Math::select(v < 0, v, -v)))) / beta;
    }
    case DensityActivation::kSdf:
      return sigmoid<Math>(-u / beta) / beta;
    case DensityActivation::kNone:
      break;
  }
  return u;
}

// d sigma / d u and d sigma / d beta.
template <class Num>
struct ActivationSlope {
  Num u;
  Num beta;
};

template <class Math = ScalarMath, class Num>
CIPS3D_HOST_DEVICE ActivationSlope<Num> activation_slope(DensityActivation activation, Num u, Num beta) {
  const Num zero{}, one = zero + 1;
  switch (activation) {
    case DensityActivation::kRelu:
      return {Math::select(u <= 0, zero, one), zero};
    case DensityActivation::kSoftplus: {
      const Num slope = sigmoid<Math>(beta * u);
      return {slope, (u * slope - activate<Math>(activation, u, beta)) / beta};
    }
    case DensityActivation::kSdf: {
      const Num v = u / beta;
      const Num inside = sigmoid<Math>(-v);
      const Num bell = inside * sigmoid<Math>(v) / (beta * beta);
      return {-bell, bell * v - inside / (beta * beta)};
    }
    case DensityActivation::kNone:
      break;
  }
  return {one, zero};
}

// delta_i before the ray norm. `appended`: interval i is the one that rule left appends after the last sample, z_next
// is unused.
template <class Math = ScalarMath, class Num>
CIPS3D_HOST_DEVICE Num interval_length(const VolumeRenderOptions& o, bool appended, Num z, Num z_next) {
  if (o.unit_delta) return Math::template fill<Num>(1);
  if (!appended) return z_next - z;
  return o.has_far ? Math::template fill<Num>(o.far) - z : Math::template fill<Num>(o.last_delta);
}

// Whether the ray norm multiplies interval i.
CIPS3D_HOST_DEVICE bool norm_applies(const VolumeRenderOptions& o, bool appended) { return !appended || o.norm_last; }

// What an interval of optical depth x lets through, and what it absorbs; both to full relative precision.
template <class Num>
struct Absorption {
  Num passed;  // e = exp(-x)
  Num alpha;   // 1 - e
};

template <class Math = ScalarMath, class Num>
CIPS3D_HOST_DEVICE Absorption<Num> absorb(Num x) {
  return {Math::exp(-x), -Math::expm1(-x)};
}

// e / (e + trans_eps), 0 where nothing passes (also with trans_eps = 0).
template <class Math = ScalarMath, class Num>
CIPS3D_HOST_DEVICE Num passed_share(Num passed, Num trans_eps) {
  const Num zero{};
  return Math::select(passed == 0, zero, passed / (passed + trans_eps));
}

// Depth of a ray from sum(w z) and sum(w): the sum itself, or the expected depth, +inf where no weight is.
template <class Math = ScalarMath, class Num>
CIPS3D_HOST_DEVICE Num ray_depth(const VolumeRenderOptions& o, Num weighted_depth, Num total_weight) {
  if (!o.expected_depth) return weighted_depth;
  return Math::select(total_weight == 0, Math::template fill<Num>(HUGE_VAL), weighted_depth / total_weight);
}

// d depth / d w_i = (z_i - origin) * scale and d depth / d z_i = w_i * scale, with z_i the depth of interval i.
template <class Num>
struct DepthSlope {
  Num origin;
  Num scale;
};

template <class Math = ScalarMath, class Num>
CIPS3D_HOST_DEVICE DepthSlope<Num> ray_depth_slope(const VolumeRenderOptions& o, Num weighted_depth, Num total_weight) {
  const Num zero{}, one = zero + 1;
  if (!o.expected_depth) return {zero, one};
  const auto empty = total_weight == 0;
  const Num safe = Math::select(empty, one, total_weight);
  return {weighted_depth / safe, Math::select(empty, zero, 1 / safe)};
}

}  // namespace cips3d
