// merge_samples' CPU kernels: compiled once per SIMD level. The sort is in common/merge_samples_cpu_rays.h; here the
// moves.
//
// Computes  gather and scatter: rows of features between a, b and merged, by order
// Axes      a [rays,Sa,C], b [rays,Sb,C], merged [rays,S,C], order [rays,S], S = Sa + Sb
// Launch    each thread takes a contiguous share of the rays
// Traffic   every array once
// Numerics  features are moved bit for bit
// Limit     memory
#include "common/merge_samples_cpu_rays.h"
#include "merge_samples/merge_samples_cpu.h"

#define CIPS3D_TABLE_NAME_(level) merge_samples_cpu_kernels_##level
#define CIPS3D_TABLE_NAME(level) CIPS3D_TABLE_NAME_(level)

namespace cips3d::CIPS3D_SIMD_NS {

typedef uint8_t Bytes __attribute__((vector_size(kVectorBytes), aligned(1), may_alias));

template <class Piece>
CIPS3D_INLINE void copy_piece(char* to, const char* from) {
  __builtin_memcpy(to, from, sizeof(Piece));
}

// Copies an even number of bytes. Long rows end in a vector that overlaps the one before.
CIPS3D_INLINE void copy_row(char* to, const char* from, int64_t bytes) {
  if (bytes >= kVectorBytes) {
    for (int64_t i = 0; i + kVectorBytes < bytes; i += kVectorBytes) copy_piece<Bytes>(to + i, from + i);
    return copy_piece<Bytes>(to + bytes - kVectorBytes, from + bytes - kVectorBytes);
  }
  int64_t i = 0;
  for (; i + 8 <= bytes; i += 8) copy_piece<uint64_t>(to + i, from + i);
  if (bytes & 4) copy_piece<uint32_t>(to + i, from + i);
  if (bytes & 2) copy_piece<uint16_t>(to + i + (bytes & 4), from + i + (bytes & 4));
}

// Visits the rows of rays [begin, end) as (row of a or b, row of merged).
template <class Move>
CIPS3D_INLINE void for_rows(const MergeSamplesTask& task, int64_t row_bytes, int64_t begin, int64_t end, Move move) {
  const int64_t count_a = task.sizes.count_a, count_b = task.sizes.count_b, samples = count_a + count_b;
  for (int64_t ray = begin; ray < end; ++ray) {
    char* a = static_cast<char*>(task.a) + ray * count_a * row_bytes;
    char* b = static_cast<char*>(task.b) + ray * count_b * row_bytes;
    char* merged = static_cast<char*>(task.merged) + ray * samples * row_bytes;
    const int64_t* order = task.order + ray * samples;
    for (int64_t i = 0; i < samples; ++i)
      move(order[i] < count_a ? a + order[i] * row_bytes : b + (order[i] - count_a) * row_bytes,
           merged + i * row_bytes);
  }
}

inline void gather(const MergeSamplesTask& task, int64_t element_bytes, int64_t begin, int64_t end) {
  const int64_t row_bytes = task.sizes.channels * element_bytes;
  for_rows(task, row_bytes, begin, end, [=](char* row, char* merged) { copy_row(merged, row, row_bytes); });
}

inline void scatter(const MergeSamplesTask& task, int64_t element_bytes, int64_t begin, int64_t end) {
  const int64_t row_bytes = task.sizes.channels * element_bytes;
  for_rows(task, row_bytes, begin, end, [=](char* row, char* merged) { copy_row(row, merged, row_bytes); });
}

}  // namespace cips3d::CIPS3D_SIMD_NS

namespace cips3d {

const MergeSamplesCpuKernels& CIPS3D_TABLE_NAME(CIPS3D_SIMD_LEVEL)() {
  using namespace CIPS3D_SIMD_NS;
  static constexpr MergeSamplesCpuKernels kernels{
      {sort_samples<double>, sort_samples<float>, sort_samples<bfloat16>, sort_samples<float16>}, gather, scatter};
  return kernels;
}

}  // namespace cips3d
