// volume_render's CPU kernels: compiled once per SIMD level from common/volume_render_cpu_rays.h.
#include "common/volume_render_cpu_rays.h"
#include "volume_render/volume_render_cpu.h"

#define CIPS3D_TABLE_NAME_(level) volume_render_cpu_kernels_##level
#define CIPS3D_TABLE_NAME(level) CIPS3D_TABLE_NAME_(level)

namespace cips3d {

const VolumeRenderCpuKernels& CIPS3D_TABLE_NAME(CIPS3D_SIMD_LEVEL)() {
  using namespace CIPS3D_SIMD_NS;
  static constexpr VolumeRenderCpuKernels kernels{{volume_render_forward<double>, volume_render_forward<float>,
                                                   volume_render_forward<bfloat16>, volume_render_forward<float16>},
                                                  {volume_render_backward<double>, volume_render_backward<float>,
                                                   volume_render_backward<bfloat16>, volume_render_backward<float16>}};
  return kernels;
}

}  // namespace cips3d
