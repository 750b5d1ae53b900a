// sample_planes on the CPU: the kernels of this machine's SIMD level, registration. Allocation and threads are in
// common/grid_sample_cpu_call.h.
#include "sample_planes/sample_planes_cpu.h"
#include "common/grid_sample_cpu_call.h"
#include "sample_planes/sample_planes.h"

namespace cips3d {
namespace {

const GridSampleCpuKernels& kernels_for(const GridSampleCall& call) {
  return CIPS3D_CPU_KERNELS(sample_planes_cpu_kernels)[cpu_dtype_index(call.grids)];
}

Tensor sample_planes_cpu(const GridSampleCall& call) { return grid_sample_cpu(call, kernels_for(call)); }

GridSampleGradients sample_planes_backward_cpu(const GridSampleCall& call, const Tensor& grad, int64_t grad_mask) {
  return grid_sample_backward_cpu(call, kernels_for(call), grad, grad_mask);
}

}  // namespace
}  // namespace cips3d

STABLE_TORCH_LIBRARY_IMPL(cips3d_ext, CPU, m) {
  m.impl("sample_planes", TORCH_BOX(&cips3d::sample_planes_entry<cips3d::sample_planes_cpu>));
  m.impl("sample_planes_backward",
         TORCH_BOX(&cips3d::sample_planes_backward_entry<cips3d::sample_planes_backward_cpu>));
}
