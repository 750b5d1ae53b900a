// siren_field's points and gradients for the backward kernel of common/siren_backward_kernel.cuh, whose note holds.
#pragma once
#include "siren_field/siren_field_points.cuh"

namespace cips3d {

// Null: absent, or not wanted. directions: gradient of each point's direction, [B,N,3] float.
struct SirenFieldGradientArrays {
  AnyFloats features, density, points;
  float* directions;
};

struct SirenFieldPoints {
  SirenFieldArrays arrays;
  SirenFieldGradientArrays gradients;
  int64_t count;

  __device__ __forceinline__ void load(SirenVector kind, int64_t image, int64_t point, float (&vector)[3]) const {
    arrays.load(kind, image, point, vector);
  }
  __device__ __forceinline__ float feature_gradient(int64_t image, int64_t point, int feature) const {
    if (!gradients.features.data || feature >= arrays.feature_count) return 0;
    return gradients.features.load((image * count + point) * arrays.feature_count + feature);
  }
  __device__ __forceinline__ float density_gradient(int64_t image, int64_t point) const {
    return gradients.density.data ? gradients.density.load(image * count + point) : 0;
  }
  __device__ __forceinline__ bool wanted(SirenVector kind) const {
    return (kind == SirenVector::kPoint && gradients.points.data) ||
           (kind == SirenVector::kDirection && gradients.directions);
  }
  __device__ __forceinline__ void store(SirenVector kind, int64_t image, int64_t point, int axis, float value) const {
    const int64_t at = (image * count + point) * 3 + axis;
    if (kind == SirenVector::kPoint)
      gradients.points.store(at, arrays.point_scale * value);
    else
      gradients.directions[at] = value;
  }
};

}  // namespace cips3d
