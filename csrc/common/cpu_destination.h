// What the CPU kernels write: vectors of rows, past the caches where the array is large. An ordinary store first reads
// the line that it writes, and pushes what kernels work on out of the caches.
#pragma once
#include "common/simd.h"

namespace cips3d::CIPS3D_SIMD_NS {

// Larger arrays would only flush the caches: L2 is smaller, and L3 is shared.
inline constexpr int64_t kStreamFromBytes = int64_t{4} << 20;

// Vectors written past the caches need aligned addresses; only types stored as they are computed have them.
template <class S>
inline constexpr bool kCanStream = false;
template <>
inline constexpr bool kCanStream<float> = true;

CIPS3D_INLINE void stream(float* p, Vec<float> v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(p, (__m512)v);
#elif defined(__AVX2__)
  _mm256_stream_ps(p, (__m256)v);
#elif defined(__x86_64__)
  _mm_stream_ps(p, (__m128)v);
#else
  store(p, v);
#endif
}

// [rows, columns] of a storage type; null where nothing is wanted.
template <class S>
struct Destination {
  S* array;
  bool past_caches;

  Destination(void* to, int64_t rows, int64_t columns)
      : array(static_cast<S*>(to)),
        past_caches(kCanStream<S> && to && reinterpret_cast<uintptr_t>(to) % kVectorBytes == 0 &&
                    columns % kLanes<Compute<S>> == 0 &&
                    rows * columns * static_cast<int64_t>(sizeof(S)) >= kStreamFromBytes) {}

  // The first `count` values of `v` to array[at...], a whole number of vectors behind the beginning of a row.
  CIPS3D_INLINE void write(int64_t at, int64_t count, Vec<Compute<S>> v) const {
    if constexpr (kCanStream<S>)
      if (past_caches) return stream(array + at, v);
    store_first(array + at, count, v);
  }

  // After a thread's last write: other threads see all of them.
  CIPS3D_INLINE void finish() const {
#if defined(__x86_64__)
    if (past_caches) _mm_sfence();
#endif
  }
};

}  // namespace cips3d::CIPS3D_SIMD_NS
