// The arrays of a siren_field call as its kernels on the tensor cores read and write them.
#pragma once
#include "common/cuda_any_float.cuh"
#include "common/siren_cuda.cuh"
#include "siren_field/siren_field_cuda.h"

namespace cips3d {

struct SirenFieldArrays {
  AnyFloats points, directions, parameters, features, density;
  int64_t count, points_per_direction;
  int64_t feature_count;
  float point_scale;

  // Position, or direction, of one point of an image.
  __device__ __forceinline__ void load(SirenVector kind, int64_t image, int64_t point, float (&vector)[3]) const {
    if (kind == SirenVector::kPoint) {
#pragma unroll
      for (int i = 0; i < 3; ++i) vector[i] = point_scale * points.load((image * count + point) * 3 + i);
    } else {
      const int64_t ray = point / points_per_direction, rays = count / points_per_direction;
#pragma unroll
      for (int i = 0; i < 3; ++i) vector[i] = directions.load((image * rays + ray) * 3 + i);
    }
  }
};

inline SirenFieldArrays make_arrays(const SirenFieldCudaCall& call) {
  return {any_floats(call.points, call.dtype),
          any_floats(call.directions, call.dtype),
          any_floats(call.parameters, call.dtype),
          any_floats(call.features, call.dtype),
          any_floats(call.density, call.dtype),
          call.count,
          call.points_per_direction,
          call.network.feature.outputs,
          float(call.network.point_scale)};
}

}  // namespace cips3d
