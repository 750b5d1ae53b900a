// Contract of sample_pdf: what its arguments are, checked once for the CPU and the CUDA library. The math is in
// sample_pdf_math.h.
//
// Axes: P rays, W weights, K bin edges, n samples.  bins [P,K >= W+1], weights [P,W], u [P,n], one dtype -> depths
// [P,n].
#pragma once
#include "common/check.h"
#include "common/sample_pdf_math.h"

namespace cips3d {

inline SamplePdfSizes check_sample_pdf(const Tensor& bins, const Tensor& weights, const Tensor& u) {
  constexpr const char* op = "sample_pdf";
  check_floating(op, "bins", bins);
  check_dimensions(op, "bins", bins, 2, "[P,K]");
  check_dimensions(op, "weights", weights, 2, "[P,W]");
  check_dimensions(op, "u", u, 2, "[P,n]");
  const SamplePdfSizes sizes{bins.size(0), bins.size(1), weights.size(1), u.size(1)};
  STD_TORCH_CHECK(sizes.bins > sizes.weights && sizes.weights >= 1,
                  "sample_pdf: wanted at least one weight a ray and more bin edges than weights, got bins ",
                  shape_text(bins), " and weights ", shape_text(weights));
  check_shape(op, "weights", weights, {sizes.rays, sizes.weights}, "[P,W] with the P of bins");
  check_shape(op, "u", u, {sizes.rays, sizes.samples}, "[P,n] with the P of bins");
  check_like(op, "weights", weights, "bins", bins);
  check_like(op, "u", u, "bins", bins);
  return sizes;
}

}  // namespace cips3d
