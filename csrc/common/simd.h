// One vector register as a C++ value. A kernel file that includes this header is compiled once per SIMD level (CMake
// generates one source a level with CIPS3D_SIMD_LEVEL = avx512, avx2 or portable and that level's compiler flags); the
// level is chosen at run time, see cpu_level.h.
//
// Everything here lives in a namespace named after the level, and is inlined: a function shared between levels could be
// emitted with AVX-512 code and then be called on a CPU without it. For the same reason kernel files include no torch
// header and call no std:: templates.
//
// Types    Vec<T> holds kLanes<T> values of T = float or double; comparisons give a Mask<T> of all-ones or zero lanes.
// Memory   double, float, bfloat16 and float16 (`S`); the half types are loaded to float and rounded once when stored.
#pragma once
#include <cstddef>
#include <cstdint>
#include <new>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#ifndef CIPS3D_SIMD_LEVEL
#error "CPU kernel files are compiled once per level, with -DCIPS3D_SIMD_LEVEL=avx512, avx2 or portable"
#endif
#define CIPS3D_SIMD_NS CIPS3D_SIMD_LEVEL
// CIPS3D_LEVEL_NAME(f) is f_avx512, f_avx2 or f_portable: what a kernel file exports.
#define CIPS3D_LEVEL_NAME(name) CIPS3D_JOIN_EXPANDED(name, CIPS3D_SIMD_LEVEL)
#define CIPS3D_JOIN_EXPANDED(name, level) CIPS3D_JOIN(name, level)
#define CIPS3D_JOIN(name, level) name##_##level
#define CIPS3D_INLINE inline __attribute__((always_inline))

namespace cips3d::CIPS3D_SIMD_NS {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;  // SSE2, NEON: every 64-bit CPU has it
#endif

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
inline constexpr bool kHasFma = true;
#else
inline constexpr bool kHasFma = false;
#endif

struct __attribute__((may_alias)) bfloat16 {  // products read two of them as one uint32_t
  uint16_t bits;
};
struct float16 {
  uint16_t bits;
};

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(kVectorBytes)));
  typedef float in_memory __attribute__((vector_size(kVectorBytes), aligned(alignof(float)), may_alias));
  typedef int32_t mask __attribute__((vector_size(kVectorBytes)));
  typedef uint8_t bytes __attribute__((vector_size(kVectorBytes / sizeof(float))));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(kVectorBytes)));
  typedef double in_memory __attribute__((vector_size(kVectorBytes), aligned(alignof(double)), may_alias));
  typedef int64_t mask __attribute__((vector_size(kVectorBytes)));
  typedef uint8_t bytes __attribute__((vector_size(kVectorBytes / sizeof(double))));
};
template <>
struct VectorOf<uint32_t> {
  typedef uint32_t type __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Vec = typename VectorOf<T>::type;
template <class T>
using Mask = typename VectorOf<T>::mask;
using Bits = Vec<uint32_t>;
typedef uint16_t HalfBits __attribute__((vector_size(kVectorBytes / 2)));
typedef uint16_t HalfBitsInMemory __attribute__((vector_size(kVectorBytes / 2), aligned(2), may_alias));

template <class T>
inline constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

// The type a storage type is computed in.
template <class S>
struct ComputeOf {
  using type = float;
};
template <>
struct ComputeOf<double> {
  using type = double;
};
template <class S>
using Compute = typename ComputeOf<S>::type;

// ---- values ----

template <class T>
CIPS3D_INLINE Vec<T> broadcast(T x) {
  return x - Vec<T>{};
}
template <class V>
CIPS3D_INLINE V max(V a, V b) {
  return a > b ? a : b;
}
template <class V>
CIPS3D_INLINE V min(V a, V b) {
  return a < b ? a : b;
}
CIPS3D_INLINE int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
CIPS3D_INLINE int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }
CIPS3D_INLINE int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// The sum of all lanes, by halves (one fixed order at every level's width).
template <class T, int kBytes>
CIPS3D_INLINE T sum_of_lanes(const void* lanes) {
  if constexpr (kBytes == sizeof(T)) {
    T lane;
    __builtin_memcpy(&lane, lanes, kBytes);
    return lane;
  } else {
    // Whole half vectors: gcc takes a loop over lanes apart, at four times the cost.
    typedef T Half __attribute__((vector_size(kBytes / 2)));
    Half half[2];
    __builtin_memcpy(half, lanes, kBytes);
    half[0] += half[1];
    return sum_of_lanes<T, kBytes / 2>(half);
  }
}
CIPS3D_INLINE float sum(Vec<float> v) { return sum_of_lanes<float, kVectorBytes>(&v); }
CIPS3D_INLINE double sum(Vec<double> v) { return sum_of_lanes<double, kVectorBytes>(&v); }

// Whether any lane of a comparison holds.
template <class M>
CIPS3D_INLINE bool any(M mask) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_epi8((__m256i)mask) != 0;
#else
  typedef uint64_t Words __attribute__((vector_size(kVectorBytes)));
  const Words words = (Words)mask;
  return (words[0] | words[1]) != 0;
#endif
}

// ---- memory: load converts from the storage type, store rounds to nearest even ----

CIPS3D_INLINE Vec<float> load(const float* p) { return *reinterpret_cast<const VectorOf<float>::in_memory*>(p); }
CIPS3D_INLINE Vec<double> load(const double* p) { return *reinterpret_cast<const VectorOf<double>::in_memory*>(p); }
CIPS3D_INLINE void store(float* p, Vec<float> v) { *reinterpret_cast<VectorOf<float>::in_memory*>(p) = v; }
CIPS3D_INLINE void store(double* p, Vec<double> v) { *reinterpret_cast<VectorOf<double>::in_memory*>(p) = v; }

CIPS3D_INLINE Bits load_bits(const void* p) {
  return __builtin_convertvector(*static_cast<const HalfBitsInMemory*>(p), Bits);
}
CIPS3D_INLINE void store_bits(void* p, Bits low16) {
  *static_cast<HalfBitsInMemory*>(p) = __builtin_convertvector(low16, HalfBits);
}

CIPS3D_INLINE Vec<float> load(const bfloat16* p) { return (Vec<float>)(load_bits(p) << 16); }
#if defined(__AVX512BF16__)
CIPS3D_INLINE void store(bfloat16* p, Vec<float> v) {  // numbers below 2^-126 become 0
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh((__m512)v));
}
#else
CIPS3D_INLINE void store(bfloat16* p, Vec<float> v) {
  const Bits bits = (Bits)v;
  const Bits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Bits quiet_nan = Bits{} + 0x7fc0u;  // rounding could carry a NaN into infinity
  store_bits(p, v != v ? quiet_nan : rounded);
}
#endif

#if defined(__AVX512F__)
inline constexpr __mmask16 kAllLanes = 0xffff;  // the unmasked intrinsics warn about an undefined source in gcc 12
CIPS3D_INLINE Vec<float> load(const float16* p) {
  return (Vec<float>)_mm512_maskz_cvtph_ps(kAllLanes, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
CIPS3D_INLINE void store(float16* p, Vec<float> v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_maskz_cvtps_ph(kAllLanes, (__m512)v, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__F16C__) && defined(__AVX2__)
CIPS3D_INLINE Vec<float> load(const float16* p) {
  return (Vec<float>)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
CIPS3D_INLINE void store(float16* p, Vec<float> v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
}
#else
// float16 by integer arithmetic. A float16's exponent and mantissa, moved to a float's place, are its value times
// 2^-112 (subnormals included); infinity and NaN need the float's full exponent instead.
CIPS3D_INLINE Vec<float> load(const float16* p) {
  const Bits half = load_bits(p);
  const Bits magnitude = half & 0x7fffu;
  const Vec<float> finite = (Vec<float>)(magnitude << 13) * 0x1p112f;
  const Bits special = (magnitude << 13) | 0x7f800000u;
  const Bits value = magnitude >= 0x7c00u ? special : (Bits)finite;
  return (Vec<float>)(value | ((half & 0x8000u) << 16));
}
CIPS3D_INLINE void store(float16* p, Vec<float> v) {
  const Bits sign = ((Bits)v & 0x80000000u) >> 16;
  const Bits magnitude = (Bits)v & 0x7fffffffu;
  // Adding 0.5 aligns a float's last mantissa bit with 2^-24, the float16 subnormals' unit: the addition rounds.
  const Bits subnormal = (Bits)((Vec<float>)magnitude + 0.5f) - 0x3f000000u;
  const Bits rebiased = magnitude - (112u << 23);
  const Bits normal = (rebiased + 0xfffu + ((rebiased >> 13) & 1u)) >> 13;
  const Bits infinity = Bits{} + 0x7c00u, quiet_nan = Bits{} + 0x7e00u;
  Bits half = magnitude < 0x38800000u ? subnormal : normal;  // below 2^-14
  half = magnitude >= 0x47800000u ? infinity : half;         // from 2^16 on; values just below round up to 0x7c00
  half = magnitude > 0x7f800000u ? quiet_nan : half;
  store_bits(p, half | sign);
}
#endif

// Small non-negative numbers, a byte each.
template <class T>
CIPS3D_INLINE Mask<T> load_bytes(const uint8_t* p, int64_t count) {
  typename VectorOf<T>::bytes v = {};
  __builtin_memcpy(&v, p, static_cast<size_t>(count < kLanes<T> ? count : kLanes<T>));
  return __builtin_convertvector(v, Mask<T>);
}
template <class T>
CIPS3D_INLINE void store_bytes(uint8_t* p, int64_t count, Mask<T> numbers) {
  const typename VectorOf<T>::bytes v = __builtin_convertvector(numbers, typename VectorOf<T>::bytes);
  __builtin_memcpy(p, &v, static_cast<size_t>(count < kLanes<T> ? count : kLanes<T>));
}

// The first `count` <= kLanes values; the other lanes are zero. Rows whose length is no multiple of kLanes end in
// these.
template <class S>
CIPS3D_INLINE Vec<Compute<S>> load_first(const S* p, int64_t count) {
  constexpr int lanes = kLanes<Compute<S>>;
  if (count >= lanes) return load(p);
  S buffer[lanes] = {};
  for (int64_t i = 0; i < count; ++i) buffer[i] = p[i];
  return load(buffer);
}
template <class S>
CIPS3D_INLINE void store_first(S* p, int64_t count, Vec<Compute<S>> v) {
  constexpr int lanes = kLanes<Compute<S>>;
  if (count >= lanes) return store(p, v);
  S buffer[lanes];
  store(buffer, v);
  for (int64_t i = 0; i < count; ++i) p[i] = buffer[i];
}
template <class S>
CIPS3D_INLINE Compute<S> load_scalar(const S* p) {
  return load_first(p, 1)[0];
}
CIPS3D_INLINE float load_scalar(const float* p) { return *p; }
CIPS3D_INLINE double load_scalar(const double* p) { return *p; }
template <class S>
CIPS3D_INLINE void store_scalar(S* p, Compute<S> x) {
  store_first(p, 1, broadcast(x));
}
CIPS3D_INLINE void store_scalar(float* p, float x) { *p = x; }
CIPS3D_INLINE void store_scalar(double* p, double x) { *p = x; }

// Uninitialised working memory of one thread, aligned to a cache line.
template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t count)
      : data_(static_cast<T*>(::operator new(static_cast<size_t>(count) * sizeof(T), kAlignment))) {}
  ~Scratch() { ::operator delete(data_, kAlignment); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  operator T*() const { return data_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  T* data_;
};

template <class T>
class ZeroedScratch : public Scratch<T> {
 public:
  explicit ZeroedScratch(int64_t count) : Scratch<T>(count) {
    for (int64_t i = 0; i < count; ++i) (*this)[i] = T{};
  }
};

}  // namespace cips3d::CIPS3D_SIMD_NS
