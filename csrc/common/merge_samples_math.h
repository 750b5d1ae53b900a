// Order of depths along a ray, as scalar math for host and device.
#pragma once
#include <cstdint>

#include "common/host_device.h"

namespace cips3d {

// [rays] rays of count_a and count_b samples, of `channels` features each where features are moved.
struct MergeSamplesSizes {
  int64_t rays;
  int64_t count_a;
  int64_t count_b;
  int64_t channels;
};

// Whether depth x lies strictly before y, for numbers or vectors of them. NaN lies behind everything, as in torch.sort.
template <class Num>
CIPS3D_HOST_DEVICE auto lies_before(Num x, Num y) -> decltype(x < y) {
  return (x < y) | ((y != y) & (x == x));
}

}  // namespace cips3d
