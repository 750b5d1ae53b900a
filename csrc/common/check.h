// Argument checks shared by the contracts (<op>.h): messages name op, argument, wanted and seen.
#pragma once
#include "common/stable.h"

namespace cips3d {

inline std::string shape_text(const Tensor& t) {
  std::string text = "[";
  for (int64_t axis = 0; axis < t.dim(); ++axis) text += (axis ? "," : "") + std::to_string(t.size(axis));
  return text + "]";
}

inline bool has_shape(const Tensor& t, const std::vector<int64_t>& wanted) {
  bool fits = t.dim() == static_cast<int64_t>(wanted.size());
  for (size_t axis = 0; fits && axis < wanted.size(); ++axis) fits = t.size(static_cast<int64_t>(axis)) == wanted[axis];
  return fits;
}

// `axes` is the wanted shape in words, e.g. "[B,R,S] like density".
inline void check_shape(const char* op, const char* name, const Tensor& t, const std::vector<int64_t>& wanted,
                        const char* axes) {
  STD_TORCH_CHECK(has_shape(t, wanted), op, ": ", name, " must be ", axes, ", got ", shape_text(t));
}

inline void check_dimensions(const char* op, const char* name, const Tensor& t, int64_t dimensions, const char* axes) {
  STD_TORCH_CHECK(t.dim() == dimensions, op, ": ", name, " must be ", axes, ", got ", shape_text(t));
}

inline void check_floating(const char* op, const char* name, const Tensor& t) {
  const ScalarType type = t.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::Half ||
                      type == ScalarType::BFloat16,
                  op, ": ", name, " must be float64, float32, float16 or bfloat16, got ", type);
}

// Kernels read all tensors of a call as one dtype on one device.
inline void check_like(const char* op, const char* name, const Tensor& t, const char* like_name, const Tensor& like) {
  STD_TORCH_CHECK(t.scalar_type() == like.scalar_type(), op, ": ", name, " must have the dtype of ", like_name, " (",
                  like.scalar_type(), "), got ", t.scalar_type(), "; convert one of them");
  STD_TORCH_CHECK(t.is_cuda() == like.is_cuda() && t.get_device_index() == like.get_device_index(), op, ": ", name,
                  " must be on the device of ", like_name, "; move one of them");
}

}  // namespace cips3d
