// merge_samples and its movers on CUDA tensors: outputs, launches, registration. Arguments are checked by
// merge_samples.h.
#include <limits>

#include "common/torch_cuda.h"
#include "merge_samples/merge_samples.h"
#include "merge_samples/merge_samples_cuda.h"

namespace cips3d {

constexpr int64_t kMaxSamples = std::numeric_limits<int>::max() / 2;  // the sorting kernel counts in int

static const int64_t* positions(const Tensor& order) { return static_cast<const int64_t*>(order.const_data_ptr()); }

static std::tuple<Tensor, Tensor> merge_samples_cuda(Tensor z_a, Tensor z_b) {
  const MergeSamplesSizes sizes = check_merge_samples(z_a, z_b);
  const int64_t samples = sizes.count_a + sizes.count_b;
  STD_TORCH_CHECK(samples <= kMaxSamples, "merge_samples: at most ", kMaxSamples, " samples a ray on CUDA, got ",
                  samples);
  const LaunchScope scope(z_a);
  const Tensor first = as_contiguous(z_a), second = as_contiguous(z_b);
  Tensor z = new_output(z_a, {sizes.rays, samples});
  Tensor order = new_output(z_a, {sizes.rays, samples}, ScalarType::Long);
  check_launch("merge_samples",
               launch_merge_samples(cuda_dtype(z_a), data(first), data(second), z.mutable_data_ptr(),
                                    static_cast<int64_t*>(order.mutable_data_ptr()), sizes, scope.stream()));
  return {z, order};
}

static Tensor merge_samples_gather_cuda(Tensor a, Tensor b, Tensor order) {
  const MergeSamplesSizes sizes = check_merge_samples_gather(a, b, order);
  const LaunchScope scope(a);
  const Tensor first = as_contiguous(a), second = as_contiguous(b), by = as_contiguous(order);
  Tensor merged = new_output(a, {sizes.rays, sizes.count_a + sizes.count_b, sizes.channels});
  check_launch("merge_samples_gather",
               launch_merge_samples_gather(data(first), data(second), positions(by), merged.mutable_data_ptr(),
                                           a.element_size(), sizes, scope.stream()));
  return merged;
}

static std::tuple<Tensor, Tensor> merge_samples_scatter_cuda(Tensor grad, Tensor order, int64_t count_a) {
  const MergeSamplesSizes sizes = check_merge_samples_scatter(grad, order, count_a);
  const LaunchScope scope(grad);
  const Tensor merged = as_contiguous(grad), by = as_contiguous(order);
  Tensor a = new_output(grad, {sizes.rays, sizes.count_a, sizes.channels});
  Tensor b = new_output(grad, {sizes.rays, sizes.count_b, sizes.channels});
  check_launch("merge_samples_scatter",
               launch_merge_samples_scatter(data(merged), positions(by), a.mutable_data_ptr(), b.mutable_data_ptr(),
                                            grad.element_size(), sizes, scope.stream()));
  return {a, b};
}

}  // namespace cips3d

CIPS3D_CUDA_LIBRARY_IMPL(m) {
  m.impl("merge_samples", TORCH_BOX(&cips3d::merge_samples_cuda));
  m.impl("merge_samples_gather", TORCH_BOX(&cips3d::merge_samples_gather_cuda));
  m.impl("merge_samples_scatter", TORCH_BOX(&cips3d::merge_samples_scatter_cuda));
}
