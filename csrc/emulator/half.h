// __half and __nv_bfloat16 for the emulator: storage types that convert to and from float, rounding to nearest even.
#pragma once
#include <cstdint>
#include <cstring>

namespace cips3d::simt {

inline uint32_t float_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float bits_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline uint16_t to_bfloat16_bits(float value) {
  const uint32_t bits = float_bits(value);
  if (value != value) return uint16_t(bits >> 16 | 0x40);  // stays a NaN
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float from_bfloat16_bits(uint16_t bits) { return bits_float(uint32_t{bits} << 16); }

inline uint16_t to_half_bits(float value) {
  const uint32_t bits = float_bits(value), magnitude = bits & 0x7fffffff;
  const uint16_t sign = uint16_t(bits >> 16 & 0x8000);
  if (magnitude > 0x7f800000) return uint16_t(sign | 0x7e00);   // NaN
  if (magnitude >= 0x477ff000) return uint16_t(sign | 0x7c00);  // 65520 and more round to infinity
  if (magnitude < 0x38800000)                                   // below 2^-14: adding 0.5 rounds to multiples of 2^-24
    return uint16_t(sign | (float_bits(bits_float(magnitude) + 0.5f) - 0x3f000000));
  return uint16_t(sign | ((magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13));
}

inline float from_half_bits(uint16_t bits) {
  const uint32_t sign = uint32_t(bits & 0x8000) << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
  if (exponent == 31) return bits_float(sign | 0x7f800000 | fraction << 13);
  if (exponent == 0) return bits_float(sign | float_bits(float(fraction) * 0x1p-24f));
  return bits_float(sign | (exponent + 112) << 23 | fraction << 13);
}

}  // namespace cips3d::simt

struct __half {
  uint16_t bits;
  __half() = default;
  __half(float value) : bits(cips3d::simt::to_half_bits(value)) {}
  operator float() const { return cips3d::simt::from_half_bits(bits); }
};

struct __nv_bfloat16 {
  uint16_t bits;
  __nv_bfloat16() = default;
  __nv_bfloat16(float value) : bits(cips3d::simt::to_bfloat16_bits(value)) {}
  operator float() const { return cips3d::simt::from_bfloat16_bits(bits); }
};
