// Elementary functions of whole vectors (simd.h). float: polynomials after a Cody-Waite range reduction, with the
// errors named at each function, measured against double. double: the C library, lane by lane, since double is there to
// check gradients, not to be fast.
#pragma once
#include <math.h>

#include "simd.h"

namespace cips3d::CIPS3D_SIMD_NS {

// Adding 1.5 * 2^23 to a float below 2^22 leaves the nearest integer in its low mantissa bits.
inline constexpr float kRoundToInteger = 12582912.0f;

// Beyond this the reduction below loses accuracy, and the C library takes over.
inline constexpr float kSinLimit = kHasFma ? 1.0e6f : 3.0e4f;

// r = x - n * pi with n the nearest integer to x / pi, and the sign bit (-1)^n that sin and cos take from it.
// pi is the sum of the constants: with a fused multiply-add two floats do; without, the leading ones are so short that
// n times them is exact for |n| < 2^14.
CIPS3D_INLINE Vec<float> reduce_by_pi(Vec<float> x, Bits& sign) {
  const Vec<float> shifted = x * 0.318309886f + kRoundToInteger;
  const Vec<float> n = shifted - kRoundToInteger;
  sign = (Bits)shifted << 31;
  if constexpr (kHasFma) return (x - n * 3.14159274101257324f) + n * 8.74227765734758577e-8f;
  return ((x - n * 3.140625f) - n * 9.67025756835937500e-4f) - n * 6.27711415290832520e-7f - n * 1.21542012565534e-10f;
}
CIPS3D_INLINE Vec<float> sin_polynomial(Vec<float> r, Vec<float> r2) {
  Vec<float> q = r2 * 2.59997903377e-6f - 1.9806581172e-4f;
  q = q * r2 + 8.33301682387e-3f;
  q = q * r2 - 1.66666570776e-1f;
  return r + (r * r2) * q;
}
CIPS3D_INLINE Vec<float> cos_polynomial(Vec<float> r2) {
  Vec<float> q = r2 * -2.60763840242e-7f + 2.47618472122e-5f;
  q = q * r2 - 1.3888402789e-3f;
  q = q * r2 + 4.16666406767e-2f;
  q = q * r2 - 4.99999995484e-1f;
  return q * r2 + 1.0f;
}

// Lane by lane through the C library; out of line and through memory, since it is the rare path.
template <class T>
__attribute__((noinline)) void sin_cos_by_lane(const T* x, T* sine, T* cosine) {
  for (int i = 0; i < kLanes<T>; ++i) {
    sine[i] = static_cast<T>(::sin(static_cast<double>(x[i])));
    cosine[i] = static_cast<T>(::cos(static_cast<double>(x[i])));
  }
}
template <class T>
CIPS3D_INLINE void sin_cos_by_lane(Vec<T> x, Vec<T>& sine, Vec<T>& cosine) {
  alignas(kVectorBytes) T buffer[3 * kLanes<T>];
  store(buffer, x);
  sin_cos_by_lane(buffer, buffer + kLanes<T>, buffer + 2 * kLanes<T>);
  sine = load(buffer + kLanes<T>);
  cosine = load(buffer + 2 * kLanes<T>);
}

// Whether any |x| is above the limit.
CIPS3D_INLINE bool any_beyond(Vec<float> x, float limit) {
  const Vec<float> magnitude = (Vec<float>)((Bits)x & 0x7fffffffu);
#if defined(__AVX512F__)
  // The comparison's own mask: gcc makes a vector of any()'s argument and compares that again.
  return _mm512_cmp_ps_mask((__m512)magnitude, (__m512)broadcast(limit), _CMP_GT_OQ) != 0;
#else
  return any(magnitude > limit);
#endif
}

// sin and cos. Absolute error 1.5e-7 for |x| <= kSinLimit (2.1e-7 without a fused multiply-add), correctly rounded
// beyond; NaN for NaN and infinity.
CIPS3D_INLINE void sin_cos(Vec<float> x, Vec<float>& sine, Vec<float>& cosine) {
  if (__builtin_expect(any_beyond(x, kSinLimit), false)) return sin_cos_by_lane<float>(x, sine, cosine);
  Bits sign;
  const Vec<float> r = reduce_by_pi(x, sign);
  const Vec<float> r2 = r * r;
  sine = (Vec<float>)((Bits)sin_polynomial(r, r2) ^ sign);
  cosine = (Vec<float>)((Bits)cos_polynomial(r2) ^ sign);
}
CIPS3D_INLINE Vec<float> sin(Vec<float> x) {
  Vec<float> sine, cosine;
  sin_cos(x, sine, cosine);  // the unused cosine is optimised away
  return sine;
}
CIPS3D_INLINE Vec<float> cos(Vec<float> x) {
  Vec<float> sine, cosine;
  sin_cos(x, sine, cosine);
  return cosine;
}
CIPS3D_INLINE void sin_cos(Vec<double> x, Vec<double>& sine, Vec<double>& cosine) {
  sin_cos_by_lane<double>(x, sine, cosine);
}
CIPS3D_INLINE Vec<double> sin(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = ::sin(x[i]);
  return x;
}
CIPS3D_INLINE Vec<double> cos(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = ::cos(x[i]);
  return x;
}

// Relative error 9e-8; infinity above log(FLT_MAX), 0 below log(FLT_MIN) (no subnormal results).
CIPS3D_INLINE Vec<float> exp(Vec<float> x) {
  constexpr float kLogMax = 88.7228317f, kLogMin = -87.3365402f;
  const Vec<float> clamped = min(max(x, broadcast(kLogMin)), broadcast(kLogMax));
  const Vec<float> shifted = clamped * 1.44269504f + kRoundToInteger;
  const Vec<float> n = shifted - kRoundToInteger;
  // log(2) in two floats, the first so short that n times it is exact.
  const Vec<float> r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  Vec<float> q = r * 1.9875691500e-4f + 1.3981999507e-3f;
  q = q * r + 8.3334519073e-3f;
  q = q * r + 4.1665795894e-2f;
  q = q * r + 1.6666665459e-1f;
  q = q * r + 5.0000001201e-1f;
  q = q * (r * r) + r + 1.0f;
  const Vec<float> scaled = (Vec<float>)((Bits)q + ((Bits)shifted << 23));  // times 2^n: adds n to the exponent
  const Vec<float> zero = {}, infinity = broadcast(__builtin_inff());
  const Vec<float> bounded = x > kLogMax ? infinity : (x < kLogMin ? zero : scaled);
  return x != x ? x : bounded;
}
CIPS3D_INLINE Vec<double> exp(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = ::exp(x[i]);
  return x;
}

// log(1 + x) for 0 <= x < 1e30 (softplus needs x = exp(-|u|) <= 1). Relative error 9e-8.
CIPS3D_INLINE Vec<float> log1p(Vec<float> x) {
  const Vec<float> u = 1.0f + x;
  const Vec<float> lost = x - (u - 1.0f);  // what rounding took from 1 + x: log(1 + x) = log(u) + lost / u
  // u = 2^e * m with m in [sqrt(1/2), sqrt(2)).
  constexpr uint32_t kSqrtHalf = 0x3f3504f3u;
  const Bits offset = (Bits)u - kSqrtHalf;
  const Vec<float> e = __builtin_convertvector((Mask<float>)offset >> 23, Vec<float>);
  const Vec<float> f = (Vec<float>)((offset & 0x007fffffu) + kSqrtHalf) - 1.0f;
  const Vec<float> f2 = f * f;
  Vec<float> q = f * 7.0376836292e-2f - 1.1514610310e-1f;
  q = q * f + 1.1676998740e-1f;
  q = q * f - 1.2420140846e-1f;
  q = q * f + 1.4249322787e-1f;
  q = q * f - 1.6668057665e-1f;
  q = q * f + 2.0000714765e-1f;
  q = q * f - 2.4999993993e-1f;
  q = q * f + 3.3333331174e-1f;
  const Vec<float> tail = q * f * f2 - e * 2.12194440e-4f - 0.5f * f2 + lost / u;
  const Vec<float> result = f + tail + e * 0.693359375f;
  return x != x ? x : result;
}
CIPS3D_INLINE Vec<double> log1p(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = ::log1p(x[i]);
  return x;
}

CIPS3D_INLINE Vec<float> sqrt(Vec<float> x) {
#pragma GCC unroll 16
  for (int i = 0; i < kLanes<float>; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
}
CIPS3D_INLINE Vec<double> sqrt(Vec<double> x) {
#pragma GCC unroll 8
  for (int i = 0; i < kLanes<double>; ++i) x[i] = __builtin_sqrt(x[i]);
  return x;
}

}  // namespace cips3d::CIPS3D_SIMD_NS
