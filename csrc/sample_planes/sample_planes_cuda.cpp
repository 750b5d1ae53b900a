// sample_planes on CUDA tensors: registration. Outputs and launches are in common/grid_sample_cuda_call.h.
#include "sample_planes/sample_planes_cuda.h"
#include "common/grid_sample_cuda_call.h"
#include "sample_planes/sample_planes.h"

namespace cips3d {

static Tensor sample_planes_cuda(const GridSampleCall& call) {
  return GridSampleCuda("sample_planes", call, sample_planes_cuda_launchers()).sample();
}

static GridSampleGradients sample_planes_backward_cuda(const GridSampleCall& call, const Tensor& grad,
                                                       int64_t grad_mask) {
  return GridSampleCuda("sample_planes_backward", call, sample_planes_cuda_launchers()).gradients(grad, grad_mask);
}

}  // namespace cips3d

CIPS3D_CUDA_LIBRARY_IMPL(m) {
  m.impl("sample_planes", TORCH_BOX(&cips3d::sample_planes_entry<cips3d::sample_planes_cuda>));
  m.impl("sample_planes_backward",
         TORCH_BOX(&cips3d::sample_planes_backward_entry<cips3d::sample_planes_backward_cuda>));
}
