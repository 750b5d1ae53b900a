// The column of a tensor's dtype in the CPU kernel tables.
#pragma once
#include "common/cpu_level.h"
#include "common/stable.h"

namespace cips3d {

// The dtype must be one that check_floating accepts.
inline int cpu_dtype_index(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Double:
      return static_cast<int>(CpuDtype::kFloat64);
    case ScalarType::BFloat16:
      return static_cast<int>(CpuDtype::kBFloat16);
    case ScalarType::Half:
      return static_cast<int>(CpuDtype::kFloat16);
    default:
      return static_cast<int>(CpuDtype::kFloat32);
  }
}

}  // namespace cips3d
