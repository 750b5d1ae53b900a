// merge_samples and the moves of features on the CPU: allocation, choice of kernel, threads.
#include "merge_samples/merge_samples_cpu.h"

#include <algorithm>

#include "common/cpu_dtype.h"
#include "common/huge_pages.h"
#include "common/parallel.h"
#include "merge_samples/merge_samples.h"

namespace cips3d {
namespace {

// Fewer rays than this are not worth another thread.
constexpr int64_t kRaysPerWorker = 64;

template <class Body>
void for_rays(int64_t rays, const Body& body) {
  parallel_shares(rays, worker_count(rays / kRaysPerWorker),
                  [&](int64_t, int64_t begin, int64_t end) { body(begin, end); });
}

// An entry of a caller's own `order` outside the samples would be an access outside of the tensors.
void check_order(const char* op, const Tensor& order, const MergeSamplesSizes& sizes) {
  const int64_t total = sizes.count_a + sizes.count_b;
  const int64_t* entries = static_cast<const int64_t*>(order.const_data_ptr());
  const bool inside =
      std::all_of(entries, entries + order.numel(), [&](int64_t entry) { return entry >= 0 && entry < total; });
  STD_TORCH_CHECK(inside, op, ": order must hold positions in [0, ", total, "), as merge_samples gives them");
}

// One task type serves gather and scatter, so what a kernel only reads is passed as writable too.
void* read(const Tensor& t) { return const_cast<void*>(t.const_data_ptr()); }

std::tuple<Tensor, Tensor> merge_samples_cpu(Tensor z_a, Tensor z_b) {
  const MergeSamplesSizes sizes = check_merge_samples(z_a, z_b);
  z_a = as_contiguous(z_a);
  z_b = as_contiguous(z_b);
  const std::vector<int64_t> shape{sizes.rays, sizes.count_a + sizes.count_b};
  const Tensor z = on_huge_pages(torch::stable::new_empty(z_a, shape));
  const Tensor order = on_huge_pages(torch::stable::new_empty(z_a, shape, ScalarType::Long));
  const MergeSamplesTask task{read(z_a), read(z_b), z.mutable_data_ptr(),
                              static_cast<int64_t*>(order.mutable_data_ptr()), sizes};
  const auto kernel = CIPS3D_CPU_KERNELS(merge_samples_cpu_kernels).sort[cpu_dtype_index(z_a)];
  for_rays(sizes.rays, [&](int64_t begin, int64_t end) { kernel(task, begin, end); });
  return {z, order};
}

Tensor merge_samples_gather_cpu(Tensor a, Tensor b, Tensor order) {
  const MergeSamplesSizes sizes = check_merge_samples_gather(a, b, order);
  a = as_contiguous(a);
  b = as_contiguous(b);
  order = as_contiguous(order);
  check_order("merge_samples_gather", order, sizes);
  const Tensor merged =
      on_huge_pages(torch::stable::new_empty(a, {sizes.rays, sizes.count_a + sizes.count_b, sizes.channels}));
  const MergeSamplesTask task{read(a), read(b), merged.mutable_data_ptr(), static_cast<int64_t*>(read(order)), sizes};
  const auto kernel = CIPS3D_CPU_KERNELS(merge_samples_cpu_kernels).gather;
  for_rays(sizes.rays,
           [&](int64_t begin, int64_t end) { kernel(task, static_cast<int64_t>(merged.element_size()), begin, end); });
  return merged;
}

std::tuple<Tensor, Tensor> merge_samples_scatter_cpu(Tensor grad, Tensor order, int64_t count_a) {
  const MergeSamplesSizes sizes = check_merge_samples_scatter(grad, order, count_a);
  grad = as_contiguous(grad);
  order = as_contiguous(order);
  check_order("merge_samples_scatter", order, sizes);
  const auto empty = [&](int64_t count) {
    return on_huge_pages(torch::stable::new_empty(grad, {sizes.rays, count, sizes.channels}));
  };
  const Tensor grad_a = empty(sizes.count_a), grad_b = empty(sizes.count_b);
  const MergeSamplesTask task{grad_a.mutable_data_ptr(), grad_b.mutable_data_ptr(), read(grad),
                              static_cast<int64_t*>(read(order)), sizes};
  const auto kernel = CIPS3D_CPU_KERNELS(merge_samples_cpu_kernels).scatter;
  for_rays(sizes.rays,
           [&](int64_t begin, int64_t end) { kernel(task, static_cast<int64_t>(grad.element_size()), begin, end); });
  return {grad_a, grad_b};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(cips3d_ext, CPU, m) {
  m.impl("merge_samples", TORCH_BOX(&merge_samples_cpu));
  m.impl("merge_samples_gather", TORCH_BOX(&merge_samples_gather_cpu));
  m.impl("merge_samples_scatter", TORCH_BOX(&merge_samples_scatter_cpu));
}

}  // namespace cips3d
