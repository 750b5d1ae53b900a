// Between the glue (merge_samples_cpu.cpp) and the kernels that are compiled once per SIMD level
// (merge_samples_cpu_kernels.h).
#pragma once
#include "common/cpu_level.h"
#include "common/ray_tasks.h"

namespace cips3d {

// Each works on rays [begin, end). Sorting depends on the dtype; moving only on its size, given in bytes.
struct MergeSamplesCpuKernels {
  void (*sort[kCpuDtypes])(const MergeSamplesTask&, int64_t begin, int64_t end);
  void (*gather)(const MergeSamplesTask&, int64_t element_bytes, int64_t begin, int64_t end);
  void (*scatter)(const MergeSamplesTask&, int64_t element_bytes, int64_t begin, int64_t end);
};

const MergeSamplesCpuKernels& merge_samples_cpu_kernels_avx512();
const MergeSamplesCpuKernels& merge_samples_cpu_kernels_avx2();
const MergeSamplesCpuKernels& merge_samples_cpu_kernels_portable();

}  // namespace cips3d
