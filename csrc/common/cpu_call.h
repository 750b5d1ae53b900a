// What the CPU glue of every op needs between torch's tensors and the kernels' plain pointers.
#pragma once
#include <cstring>

#include "common/huge_pages.h"
#include "common/stable.h"

namespace cips3d {

inline void* data(const Tensor& t) { return t.mutable_data_ptr(); }
inline void* data(const std::optional<Tensor>& t) { return t ? t->mutable_data_ptr() : nullptr; }

// `count` uninitialised elements of the type that kernels compute x's dtype in.
inline Tensor working_memory(const Tensor& x, int64_t count) {
  return on_huge_pages(torch::stable::new_empty(x, {count}, computing_type(x.scalar_type())));
}

// A fresh contiguous tensor of t's shape and dtype, to be written completely.
inline Tensor output_like(const Tensor& t) { return on_huge_pages(torch::stable::new_empty(t, t.sizes())); }

inline Tensor gradient_or_none(const std::optional<Tensor>& gradient, const Tensor& like) {
  return gradient ? *gradient : no_gradient(like);
}

// The gradients of an empty output are zero.
template <class... Tensors>
std::tuple<Tensors...> zero_all(const std::tuple<Tensors...>& tensors) {
  std::apply(
      [](const auto&... t) { (std::memset(data(t), 0, static_cast<size_t>(t.numel()) * t.element_size()), ...); },
      tensors);
  return tensors;
}

}  // namespace cips3d
