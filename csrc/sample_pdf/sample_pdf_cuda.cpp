// sample_pdf on CUDA tensors: output, launch, registration. Arguments are checked by sample_pdf.h.
#include "sample_pdf/sample_pdf_cuda.h"
#include "common/torch_cuda.h"
#include "sample_pdf/sample_pdf.h"

namespace cips3d {

static Tensor sample_pdf_cuda(Tensor bins, Tensor weights, Tensor u, double eps, bool right) {
  const SamplePdfSizes sizes = check_sample_pdf(bins, weights, u);
  const CudaDtype dtype = cuda_dtype(bins);
  STD_TORCH_CHECK(sizes.weights <= sample_pdf_max_weights(dtype), "sample_pdf: at most ", sample_pdf_max_weights(dtype),
                  " weights a ray in this dtype on CUDA, got ", shape_text(weights), "; use impl=\"reference\"");
  const LaunchScope scope(bins);
  const Tensor edges = as_contiguous(bins), rows = as_contiguous(weights), positions = as_contiguous(u);
  Tensor depths = new_output(bins, {sizes.rays, sizes.samples});
  check_launch("sample_pdf", launch_sample_pdf(dtype, data(edges), data(rows), data(positions),
                                               depths.mutable_data_ptr(), sizes, {eps, right}, scope.stream()));
  return depths;
}

}  // namespace cips3d

CIPS3D_CUDA_LIBRARY_IMPL(m) { m.impl("sample_pdf", TORCH_BOX(&cips3d::sample_pdf_cuda)); }
