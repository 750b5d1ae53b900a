// One include for the glue of every op: LibTorch's stable ABI (torch >= 2.10) and what all ops need of it.
#pragma once
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace cips3d {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// A `str` argument of an op. The conversion to std::string in the headers of torch 2.13 leaks a copy of it at
// every call, and a heap where each call leaves a few bytes soon cannot reuse the space of freed tensors.
struct StringArgument {
  StringHandle handle;  // owned, but freed by hand: torch converts trivially copyable types only

  // The text; to be called once.
  std::string take() const {
    size_t length = 0;
    const char* text = nullptr;
    TORCH_ERROR_CODE_CHECK(torch_string_length(handle, &length));
    TORCH_ERROR_CODE_CHECK(torch_string_c_str(handle, &text));
    const std::string taken(text, length);
    TORCH_ERROR_CODE_CHECK(torch_delete_string(handle));
    return taken;
  }
};

// Not named contiguous: argument-dependent lookup would find PyTorch's as well.
inline Tensor as_contiguous(const Tensor& t) { return t.is_contiguous() ? t : torch::stable::contiguous(t); }

inline std::optional<Tensor> as_contiguous(const std::optional<Tensor>& t) {
  return t ? std::optional<Tensor>(as_contiguous(*t)) : std::nullopt;
}

// The type that kernels compute a dtype in: double for double, float for all others.
inline ScalarType computing_type(ScalarType type) {
  return type == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// A gradient nobody asked for: the backward ops return it in that gradient's place.
inline Tensor no_gradient(const Tensor& like) { return torch::stable::new_empty(like, {0}); }

}  // namespace cips3d
