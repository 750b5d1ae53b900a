// sample_pdf's CPU kernels: compiled once per SIMD level from common/sample_pdf_cpu_rays.h.
#include "common/sample_pdf_cpu_rays.h"
#include "sample_pdf/sample_pdf_cpu.h"

#define CIPS3D_TABLE_NAME_(level) sample_pdf_cpu_kernels_##level
#define CIPS3D_TABLE_NAME(level) CIPS3D_TABLE_NAME_(level)

namespace cips3d {

const SamplePdfCpuKernels& CIPS3D_TABLE_NAME(CIPS3D_SIMD_LEVEL)() {
  using namespace CIPS3D_SIMD_NS;
  static constexpr SamplePdfCpuKernels kernels{
      {sample_depths<double>, sample_depths<float>, sample_depths<bfloat16>, sample_depths<float16>}};
  return kernels;
}

}  // namespace cips3d
