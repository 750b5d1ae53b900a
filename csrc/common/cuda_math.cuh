// Sine and cosine for epilogues, accurate for any argument. Out of line: an epilogue calls them for each of a thread's
// 32 results, and 32 inlined copies of the argument reduction make code ten times as large and slow to compile; a call
// is nothing beside the product that each result stands for.
#pragma once
#include "common/cuda_platform.h"

namespace cips3d {

template <class Real>
__device__ __noinline__ Real sine(Real x) {
  return sin(x);
}

template <class Real>
__device__ __noinline__ Real cosine(Real x) {
  return cos(x);
}

}  // namespace cips3d
