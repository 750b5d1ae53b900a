// Large outputs on huge pages. A fresh tensor of many MB is fresh memory of the operating system: writing it the first
// time costs a page fault every 4 KB, more than many kernels' own work; pages of 2 MB cost a sixth of that.
#pragma once
#include "common/stable.h"
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace cips3d {

inline constexpr size_t kHugePageBytes = size_t{2} << 20;
inline constexpr size_t kHugePagesFrom = size_t{4}
                                         << 20;  // smaller tensors usually reuse memory that is mapped already

// Asks the kernel to back a tensor that is about to be written by huge pages; advice only, so a refusal is no error.
inline Tensor on_huge_pages(Tensor t) {
#if defined(__linux__)
  const size_t bytes = static_cast<size_t>(t.numel()) * t.element_size();
  if (bytes >= kHugePagesFrom) {
    const auto begin = reinterpret_cast<uintptr_t>(t.mutable_data_ptr());
    const uintptr_t first = (begin + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
    const uintptr_t last = (begin + bytes) / kHugePageBytes * kHugePageBytes;
    if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
  }
#endif
  return t;
}

}  // namespace cips3d
