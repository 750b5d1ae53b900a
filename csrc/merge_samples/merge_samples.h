// Contract of merge_samples and of the moves of features that go with it, checked once for the CPU and the CUDA
// library.
//
// Axes: P rays, Sa and Sb samples of the two sets, S = Sa + Sb, C features.
//   merge_samples          z_a [P,Sa], z_b [P,Sb] -> z [P,S] increasing, order int64 [P,S]: positions in cat([z_a,
//   z_b], 1).
//                          The inputs need no order; the sort is stable: a before b, and earlier before later, on ties.
//   merge_samples_gather   a [P,Sa,C], b [P,Sb,C], order -> [P,S,C]
//   merge_samples_scatter  grad [P,S,C], order, Sa -> grad_a [P,Sa,C], grad_b [P,Sb,C]: the gather's transpose
// The two movers trust `order` to hold a permutation of 0 .. S - 1 for every ray, as merge_samples returns it.
#pragma once
#include "common/check.h"
#include "common/merge_samples_math.h"

namespace cips3d {

inline MergeSamplesSizes check_merge_samples(const Tensor& z_a, const Tensor& z_b) {
  constexpr const char* op = "merge_samples";
  check_floating(op, "z_a", z_a);
  check_dimensions(op, "z_a", z_a, 2, "[P,Sa]");
  check_dimensions(op, "z_b", z_b, 2, "[P,Sb]");
  check_shape(op, "z_b", z_b, {z_a.size(0), z_b.size(1)}, "[P,Sb] with the P of z_a");
  check_like(op, "z_b", z_b, "z_a", z_a);
  return {z_a.size(0), z_a.size(1), z_b.size(1), 0};
}

inline void check_order(const char* op, const Tensor& order, const MergeSamplesSizes& sizes, const Tensor& features) {
  check_shape(op, "order", order, {sizes.rays, sizes.count_a + sizes.count_b}, "[P,Sa+Sb]");
  STD_TORCH_CHECK(order.scalar_type() == ScalarType::Long, op, ": order must be int64, got ", order.scalar_type());
  STD_TORCH_CHECK(order.is_cuda() == features.is_cuda(), op, ": order must be on the device of the features; move one");
}

inline MergeSamplesSizes check_merge_samples_gather(const Tensor& a, const Tensor& b, const Tensor& order) {
  constexpr const char* op = "merge_samples_gather";
  check_floating(op, "a", a);
  check_dimensions(op, "a", a, 3, "[P,Sa,C]");
  check_dimensions(op, "b", b, 3, "[P,Sb,C]");
  check_shape(op, "b", b, {a.size(0), b.size(1), a.size(2)}, "[P,Sb,C] with the P and C of a");
  check_like(op, "b", b, "a", a);
  const MergeSamplesSizes sizes{a.size(0), a.size(1), b.size(1), a.size(2)};
  check_order(op, order, sizes, a);
  return sizes;
}

inline MergeSamplesSizes check_merge_samples_scatter(const Tensor& grad, const Tensor& order, int64_t count_a) {
  constexpr const char* op = "merge_samples_scatter";
  check_floating(op, "grad", grad);
  check_dimensions(op, "grad", grad, 3, "[P,Sa+Sb,C]");
  STD_TORCH_CHECK(count_a >= 0 && count_a <= grad.size(1), op, ": count_a must be in 0 .. ", grad.size(1), ", got ",
                  count_a);
  const MergeSamplesSizes sizes{grad.size(0), count_a, grad.size(1) - count_a, grad.size(2)};
  check_order(op, order, sizes, grad);
  return sizes;
}

}  // namespace cips3d
