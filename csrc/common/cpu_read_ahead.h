// Brings what the next tile will read into L2 while products run on the tile at hand: a piece at each step of theirs.
// The hardware's own prefetchers follow rows, not the first touch of a tile.
#pragma once
#include "common/cpu_gemm.h"

namespace cips3d::CIPS3D_SIMD_NS {

class ReadAhead {
 public:
  // Forgets what is left; what is added from here on is spread over so many steps.
  CIPS3D_INLINE void start(int64_t steps) {
    count_ = at_ = 0;
    steps_ = max(steps, 1);
    lines_per_step_ = 0;
  }
  // `count` elements from `first` on; nothing if the array is absent.
  template <class T>
  CIPS3D_INLINE void add(const T* array, int64_t first, int64_t count) {
    if (!array) return;
    const char* begin = reinterpret_cast<const char*>(array + first);
    ranges_[count_++] = {begin, begin + count * static_cast<int64_t>(sizeof(T))};
    lines_per_step_ += (count * static_cast<int64_t>(sizeof(T)) / kLine + steps_) / steps_;
  }
  CIPS3D_INLINE void step() {
    for (int64_t line = 0; line < lines_per_step_ && at_ < count_; ++line) {
      __builtin_prefetch(ranges_[at_].next, 0, kIntoL2);
      ranges_[at_].next += kLine;
      if (ranges_[at_].next >= ranges_[at_].end) ++at_;
    }
  }

 private:
  static constexpr int64_t kLine = 64;
  static constexpr int kIntoL2 = 2;
  static constexpr int kMostRanges = 3;
  struct Range {
    const char *next, *end;
  };
  Range ranges_[kMostRanges];
  int64_t count_ = 0, at_ = 0, steps_ = 1, lines_per_step_ = 0;
};

}  // namespace cips3d::CIPS3D_SIMD_NS
