// sample_pdf on the CPU: allocation, choice of kernel, threads.
#include "sample_pdf/sample_pdf_cpu.h"

#include "common/cpu_dtype.h"
#include "common/huge_pages.h"
#include "common/parallel.h"
#include "sample_pdf/sample_pdf.h"

namespace cips3d {
namespace {

// Fewer rays than this are not worth another thread.
constexpr int64_t kRaysPerWorker = 64;

Tensor sample_pdf_cpu(Tensor bins, Tensor weights, Tensor u, double eps, bool right) {
  const SamplePdfSizes sizes = check_sample_pdf(bins, weights, u);
  bins = as_contiguous(bins);
  weights = as_contiguous(weights);
  u = as_contiguous(u);
  const Tensor depths = on_huge_pages(torch::stable::new_empty(u, {sizes.rays, sizes.samples}));
  const SamplePdfTask task{bins.const_data_ptr(), weights.const_data_ptr(),
                           u.const_data_ptr(),    depths.mutable_data_ptr(),
                           {eps, right},          sizes};
  const auto kernel = CIPS3D_CPU_KERNELS(sample_pdf_cpu_kernels).sample[cpu_dtype_index(bins)];
  parallel_shares(sizes.rays, worker_count(sizes.rays / kRaysPerWorker),
                  [&](int64_t, int64_t begin, int64_t end) { kernel(task, begin, end); });
  return depths;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(cips3d_ext, CPU, m) { m.impl("sample_pdf", TORCH_BOX(&sample_pdf_cpu)); }

}  // namespace cips3d
