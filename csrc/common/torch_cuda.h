// What the glue of every CUDA kernel (<op>_cuda.cpp) needs of torch. Compiled with CIPS3D_EMULATED the same glue
// registers the kernels for CPU tensors in namespace cips3d_emulated, where they run on the emulator.
#pragma once
#include <cstring>

#include "common/cuda_launch.h"
#include "common/stable.h"

#ifdef CIPS3D_EMULATED
#define CIPS3D_CUDA_LIBRARY_IMPL(m) STABLE_TORCH_LIBRARY_IMPL(cips3d_emulated, CPU, m)
#else
#define CIPS3D_CUDA_LIBRARY_IMPL(m) STABLE_TORCH_LIBRARY_IMPL(cips3d_ext, CUDA, m)
// Only a CUDA build of torch defines it. Weak, so that the library also links against and loads under a CPU build.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device, void** stream);
#endif

namespace cips3d {

// Makes a tensor's device current and says which stream work on it goes to, as torch's own ops do.
class LaunchScope {
 public:
#ifdef CIPS3D_EMULATED
  explicit LaunchScope(const Tensor&) {}
#else
  explicit LaunchScope(const Tensor& tensor) : guard_(tensor.get_device_index()) {
    STD_TORCH_CHECK(&aoti_torch_get_current_cuda_stream != nullptr, "cips3d_ext: this torch was built without CUDA");
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
    stream_ = static_cast<cudaStream_t>(stream);
  }
#endif
  cudaStream_t stream() const { return stream_; }

 private:
#ifndef CIPS3D_EMULATED
  torch::stable::accelerator::DeviceGuard guard_;
#endif
  cudaStream_t stream_ = nullptr;
};

inline CudaDtype cuda_dtype(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Double:
      return CudaDtype::kFloat64;
    case ScalarType::Float:
      return CudaDtype::kFloat32;
    case ScalarType::BFloat16:
      return CudaDtype::kBFloat16;
    case ScalarType::Half:
      return CudaDtype::kFloat16;
    default:
      STD_TORCH_CHECK(false, "cips3d_ext: no CUDA kernels for dtype ", t.scalar_type());
  }
}

// Memory for a kernel to write. The emulator fills it with NaN patterns: what the kernel leaves out shows.
inline Tensor new_output(const Tensor& like, const std::vector<int64_t>& shape,
                         std::optional<ScalarType> type = std::nullopt) {
  Tensor t = torch::stable::new_empty(like, shape, type);
#ifdef CIPS3D_EMULATED
  if (t.numel() > 0) std::memset(t.mutable_data_ptr(), 0xff, static_cast<size_t>(t.numel()) * t.element_size());
#endif
  return t;
}

inline const void* data(const Tensor& t) { return t.const_data_ptr(); }
inline const void* data(const std::optional<Tensor>& t) { return t ? t->const_data_ptr() : nullptr; }

// `launched` is what a launcher returned.
inline void check_launch(const char* op, cudaError_t launched) {
  STD_TORCH_CHECK(launched == cudaSuccess, op,
                  ": the CUDA kernel could not be launched: ", cudaGetErrorString(launched));
}

}  // namespace cips3d
