// modfc's linear map to few colours on the CPU: a row of y is in registers, vector by vector, when forward adds it up,
// and so is its gradient when backward adds what comes from the colours.
#pragma once
#include "common/simd.h"
#include "modfc/modfc_cpu.h"

namespace cips3d::CIPS3D_SIMD_NS {
namespace {

// A number or vector for each colour.
template <class V>
struct Colours {
  V of[kModfcMostColours];
};

// Columns j on of to_rgb.
template <class S>
CIPS3D_INLINE Colours<Vec<Compute<S>>> to_rgb_at(const ModfcCpuCall& call, int64_t j) {
  const int64_t outputs = call.sizes.outputs;
  Colours<Vec<Compute<S>>> columns;
  for (int64_t k = 0; k < call.sizes.colours; ++k)
    columns.of[k] = load_first(static_cast<const S*>(call.to_rgb) + k * outputs + j, outputs - j);
  return columns;
}

// rgb = y to_rgb^T of one tile: a vector of partial sums for each row and colour until all columns of y have come.
template <class S>
class RgbTile {
 public:
  using T = Compute<S>;

  explicit RgbTile(const ModfcCpuCall& call)
      : call_(call), colours_(call.rgb ? call.sizes.colours : 0), sums_(kTileRows * colours_ * kLanes<T>) {}

  void start() {
    for (int64_t i = 0; i < kTileRows * colours_; ++i) store(sums_ + i * kLanes<T>, Vec<T>{});
  }
  CIPS3D_INLINE void add(int64_t row, Vec<T> y, const Colours<Vec<T>>& to_rgb) {
    T* sums = sums_ + row * colours_ * kLanes<T>;
    for (int64_t k = 0; k < colours_; ++k) store(sums + k * kLanes<T>, load(sums + k * kLanes<T>) + y * to_rgb.of[k]);
  }
  void finish(int64_t tile, int64_t rows) const {
    S* rgb = static_cast<S*>(call_.rgb) + tile * kTileRows * colours_;
    for (int64_t i = 0; i < rows * colours_; ++i) store_scalar(rgb + i, sum(load(sums_ + i * kLanes<T>)));
  }

 private:
  const ModfcCpuCall& call_;
  int64_t colours_;
  Scratch<T> sums_;
};

// What reaches a row of y: grad_y + grad_rgb to_rgb.
template <class S>
class GradOfRow {
 public:
  using T = Compute<S>;

  CIPS3D_INLINE GradOfRow(const ModfcCpuCall& call, int64_t row)
      : call_(call), first_(row * call.sizes.outputs), colours_(call.grad_rgb ? call.sizes.colours : 0) {
    for (int64_t k = 0; k < colours_; ++k)
      grad_rgb_.of[k] = load_scalar(static_cast<const S*>(call.grad_rgb) + row * colours_ + k);
  }

  CIPS3D_INLINE Vec<T> at(int64_t j) const {
    const int64_t left = call_.sizes.outputs - j;
    const S* grad_y = static_cast<const S*>(call_.grad_y);
    Vec<T> grad = grad_y ? load_first(grad_y + first_ + j, left) : Vec<T>{};
    if (colours_ == 0) return grad;
    const Colours<Vec<T>> to_rgb = to_rgb_at<S>(call_, j);
    for (int64_t k = 0; k < colours_; ++k) grad += grad_rgb_.of[k] * to_rgb.of[k];
    return grad;
  }

  // Adds grad_rgb^T y to sums [K, padded O]; `first`: there is nothing in them yet.
  CIPS3D_INLINE void add_to_rgb_terms(int64_t j, bool first, T* sums) const {
    const int64_t outputs = call_.sizes.outputs;
    const Vec<T> y = load_first(static_cast<const S*>(call_.kept_y) + first_ + j, outputs - j);
    for (int64_t k = 0; k < colours_; ++k) {
      T* to = sums + k * padded(outputs) + j;
      store(to, first ? grad_rgb_.of[k] * y : load(to) + grad_rgb_.of[k] * y);
    }
  }

 private:
  const ModfcCpuCall& call_;
  int64_t first_, colours_;
  Colours<T> grad_rgb_;
};

}  // namespace
}  // namespace cips3d::CIPS3D_SIMD_NS
