// Between the glue (sample_pdf_cpu.cpp) and the kernels that are compiled once per SIMD level
// (sample_pdf_cpu_kernels.h).
#pragma once
#include "common/cpu_level.h"
#include "common/ray_tasks.h"

namespace cips3d {

// Each works on rays [begin, end).
struct SamplePdfCpuKernels {
  void (*sample[kCpuDtypes])(const SamplePdfTask&, int64_t begin, int64_t end);
};

const SamplePdfCpuKernels& sample_pdf_cpu_kernels_avx512();
const SamplePdfCpuKernels& sample_pdf_cpu_kernels_avx2();
const SamplePdfCpuKernels& sample_pdf_cpu_kernels_portable();

}  // namespace cips3d
