// `cips3d_ext._C`: says what was built. The kernels themselves are dispatcher ops in libcips3d_cpu.so and
// libcips3d_cuda.so, which depend on no Python; see cips3d_ext/_native.py.
#include <pybind11/pybind11.h>

#include "build_info.h"

namespace py = pybind11;

static py::dict build_info() {
  py::dict info;
  info["cuda"] = bool(HAVE_CUDA);
  info["cuda_archs"] = HAVE_CUDA ? CIPS3D_ARCHS : "";
  info["nvcc"] = HAVE_CUDA ? CIPS3D_NVCC : "";
  info["cxx"] = CIPS3D_CXX;
  info["simd_levels"] = CIPS3D_LEVELS;
  info["built_with_torch"] = CIPS3D_TORCH_VERSION;
  info["min_torch"] = CIPS3D_MIN_TORCH;
  return info;
}

PYBIND11_MODULE(_C, m) {
  m.def("build_info", &build_info,
        "What this build contains: cuda (bool), cuda_archs, nvcc, cxx, simd_levels, built_with_torch, min_torch.");
}
