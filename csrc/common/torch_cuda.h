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

// What the kernels compute in, and keep their working memory in.
inline ScalarType compute_dtype(const Tensor& t) {
  return t.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
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

// Working memory of one call, in the dtype the kernels compute in; *pointer is its address, null if it is empty.
class Workspace {
 public:
  Workspace(const Tensor& like, const std::vector<int64_t>& shape, void** pointer)
      : memory_(new_output(like, shape, compute_dtype(like))) {
    *pointer = memory_.numel() > 0 ? memory_.mutable_data_ptr() : nullptr;
  }

 private:
  Tensor memory_;
};

// The outputs of a backward op: an empty tensor and a null pointer for gradients that are not wanted or whose input is
// absent.
class NewGradients {
 public:
  NewGradients(const Tensor& like, int64_t grad_mask) : like_(like), grad_mask_(grad_mask) {}

  Tensor make(int position, const std::optional<Tensor>& input, void** pointer) const {
    *pointer = nullptr;
    if (!input || !((grad_mask_ >> position) & 1)) return no_gradient(like_);
    Tensor gradient = new_output(like_, {input->sizes().begin(), input->sizes().end()});
    if (gradient.numel() > 0) *pointer = gradient.mutable_data_ptr();
    return gradient;
  }

 private:
  const Tensor& like_;
  int64_t grad_mask_;
};

inline const void* data(const Tensor& t) { return t.const_data_ptr(); }
inline const void* data(const std::optional<Tensor>& t) { return t ? t->const_data_ptr() : nullptr; }

// `launched` is what a launcher returned.
inline void check_launch(const char* op, cudaError_t launched) {
  STD_TORCH_CHECK(launched == cudaSuccess, op,
                  ": the CUDA kernel could not be launched: ", cudaGetErrorString(launched));
}

}  // namespace cips3d
