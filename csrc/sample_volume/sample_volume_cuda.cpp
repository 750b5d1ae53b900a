// sample_volume on CUDA tensors: registration. Outputs and launches are in common/grid_sample_cuda_call.h.
#include "sample_volume/sample_volume_cuda.h"
#include "common/grid_sample_cuda_call.h"
#include "sample_volume/sample_volume.h"

namespace cips3d {

static Tensor sample_volume_cuda(const GridSampleCall& call) {
  return GridSampleCuda("sample_volume", call, sample_volume_cuda_launchers()).sample();
}

static GridSampleGradients sample_volume_backward_cuda(const GridSampleCall& call, const Tensor& grad,
                                                       int64_t grad_mask) {
  return GridSampleCuda("sample_volume_backward", call, sample_volume_cuda_launchers()).gradients(grad, grad_mask);
}

}  // namespace cips3d

CIPS3D_CUDA_LIBRARY_IMPL(m) {
  m.impl("sample_volume", TORCH_BOX(&cips3d::sample_volume_entry<cips3d::sample_volume_cuda>));
  m.impl("sample_volume_backward",
         TORCH_BOX(&cips3d::sample_volume_backward_entry<cips3d::sample_volume_backward_cuda>));
}
