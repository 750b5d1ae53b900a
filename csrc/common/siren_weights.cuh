// The weights of a SIREN field on their way to the tensor cores: folded with each image's FiLM and packed (see
// siren_plan.h) by one kernel, then brought to shared memory chunk by chunk.
#pragma once
#include "common/cuda_launch.h"
#include "common/cuda_platform.h"
#include "common/siren_plan.h"

namespace cips3d {

// parameters as in siren_plan.h; gamma, beta [B, films] or null: g = gamma_scale gamma + gamma_offset or 1,
// h = beta_scale beta or 0.
template <class T>
struct SirenParameters {
  const T *parameters, *gamma, *beta;
  Compute<T> gamma_scale, gamma_offset, beta_scale;
  int64_t films;

  __device__ __forceinline__ Compute<T> at(int64_t index) const { return static_cast<Compute<T>>(parameters[index]); }
  __device__ __forceinline__ Compute<T> frequency(int64_t image, int film) const {
    if (!gamma || film < 0) return 1;
    return gamma_scale * static_cast<Compute<T>>(gamma[image * films + film]) + gamma_offset;
  }
  __device__ __forceinline__ Compute<T> phase(int64_t image, int film) const {
    return beta && film >= 0 ? beta_scale * static_cast<Compute<T>>(beta[image * films + film]) : Compute<T>(0);
  }
};

constexpr int kSirenFoldThreads = 256;

// Computes  packed[image] = the chunks of siren_plan.h, folded in float and then rounded
// Launch    launch_siren_fold(): a block a chunk, grid (chunks, images).
// Traffic   every image reads all parameters, from L2 after the first; writes packed_bytes.
template <class T>
__global__ void __launch_bounds__(kSirenFoldThreads)
    siren_fold_kernel(SirenPlan plan, SirenParameters<T> field, int64_t images, unsigned char* packed) {
  int l = 0, chunk = int(blockIdx.x);
  while (chunk >= plan.layer[l].output_chunks) chunk -= plan.layer[l++].output_chunks;
  const SirenPackedLayer layer = plan.layer[l];
  const int vectors = layer.vector == SirenVector::kNone ? 0 : 3, columns = layer.inputs + vectors;
  const int inputs = layer.input_chunks * kSirenChunk;
  for (int64_t image = blockIdx.y; image < images; image += gridDim.y) {
    unsigned char* to = packed + image * plan.packed_bytes + layer.packed + int64_t(chunk) * layer.chunk_bytes;
    float16* blocks = reinterpret_cast<float16*>(to + kSirenHeaderBytes);
    for (int i = int(threadIdx.x); i < kSirenChunk * inputs; i += kSirenFoldThreads) {
      const int n = i / inputs, k = i % inputs, output = chunk * kSirenChunk + n;
      float value = 0;
      if (output < layer.outputs && k < layer.inputs)
        value = field.frequency(image, layer.film < 0 ? -1 : layer.film + output) *
                field.at(layer.weight + int64_t(output) * columns + vectors + k);
      float16* at = blocks + k / 16 * plan.parts * 256 + n / 8 * 128 + k % 16 / 8 * 64 + n % 8 * 8 + k % 8;
      const float16 rounded = float16(value);
      *at = rounded;
      if (plan.parts == 2) at[256] = float16(value - float(rounded));
    }
    if (threadIdx.x < kSirenChunk) {
      const int n = int(threadIdx.x), output = chunk * kSirenChunk + n,
                film = layer.film < 0 ? -1 : layer.film + output;
      float4 header = make_float4(0, 0, 0, 0);
      if (output < layer.outputs) {
        const float g = field.frequency(image, film);
        const int64_t row = layer.weight + int64_t(output) * columns;
        if (vectors) header = make_float4(g * field.at(row), g * field.at(row + 1), g * field.at(row + 2), 0);
        header.w = g * field.at(layer.bias + output) + field.phase(image, film);
      }
      reinterpret_cast<float4*>(to)[n] = header;
      const bool density = l == plan.trunk - 1 && output < layer.outputs;
      reinterpret_cast<float*>(to + kSirenDensityOffset)[n] = density ? field.at(plan.density_weight + output) : 0.0f;
    }
  }
}

template <class T>
cudaError_t launch_siren_fold(const SirenPlan& plan, const SirenParameters<T>& field, int64_t images,
                              unsigned char* packed, cudaStream_t stream) {
  const dim3 grid(unsigned(plan.chunks()), grid_size(images, 1, kMaxGridYZ));
  CIPS3D_LAUNCH((siren_fold_kernel<T>), grid, dim3(kSirenFoldThreads), 0, stream, plan, field, images, packed);
  return launch_error();
}

// ---- in the kernels -------------------------------------------------------------------------------------------------

constexpr int kSirenAhead = 2, kSirenSlots = kSirenAhead + 1;  // pieces on their way; places in shared memory

// Blocks [output chunk][part] for 16 inputs of a layer: how the backward reads the weights.
struct SirenSlab {
  const unsigned char* blocks;
  int stride;  // bytes from one output chunk to the next
};

// Brings one image's packed weights to shared memory: all of them once (resident), or piece by piece in the order in
// which the block asks for them, two pieces ahead. All threads of the block ask for the same pieces in the same order,
// once a tile of points: chunk(l, c) for all chunks of all layers; with gradients of the layers with a sine, then
// inputs(l, k) for 16 inputs each of the layers from the last to the second.
class SirenWeights {
 public:
  static size_t shared_bytes(const SirenPlan& plan, bool resident, bool gradients) {
    if (resident) return size_t(plan.packed_bytes);
    return size_t(kSirenSlots) * size_t(slot_bytes(plan, gradients));
  }

  __device__ SirenWeights(const SirenPlan& plan, const unsigned char* image, unsigned char* shared, bool resident,
                          bool gradients, int64_t tiles)
      : plan_(plan), image_(image), shared_(shared), resident_(resident), gradients_(gradients), tiles_(int(tiles)) {
    if (resident) {
      copy(shared, image, plan.packed_bytes);
      cp_async_commit();
      finish();
      __syncthreads();
    } else {
      slot_bytes_ = slot_bytes(plan, gradients);
      for (int i = 0; i < kSirenAhead; ++i) fetch();
    }
  }

  __device__ __forceinline__ const unsigned char* chunk(int l, int c) {
    if (resident_) return shared_ + plan_.layer[l].packed + c * plan_.layer[l].chunk_bytes;
    return arrived();
  }

  __device__ __forceinline__ SirenSlab inputs(int l, int k) {
    const int block_bytes = plan_.parts * kSirenBlockBytes;
    if (!resident_) return {arrived(), block_bytes};
    const SirenPackedLayer& layer = plan_.layer[l];
    return {shared_ + layer.packed + kSirenHeaderBytes + k * block_bytes, layer.chunk_bytes};
  }

  __device__ __forceinline__ void finish() { cp_async_wait<0>(); }

 private:
  CIPS3D_HOST_DEVICE static int slot_bytes(const SirenPlan& plan, bool gradients) {
    int bytes = 0;
    for (int l = 0; l < plan.layers; ++l) {
      const SirenPackedLayer& layer = plan.layer[l];
      const int slab = gradients && l > 0 ? layer.output_chunks * plan.parts * kSirenBlockBytes : 0;
      const int piece = slab > layer.chunk_bytes ? slab : layer.chunk_bytes;
      if (piece > bytes) bytes = piece;
    }
    return bytes;
  }

  __device__ __forceinline__ void copy(unsigned char* to, const unsigned char* from, int64_t bytes) const {
    for (int64_t i = int64_t(threadIdx.x) * kVectorBytes; i < bytes; i += int64_t(blockDim.x) * kVectorBytes)
      cp_async16(to + i, from + i);
  }

  // The next piece; the barrier also says that nobody reads the one before it any more.
  __device__ const unsigned char* arrived() {
    cp_async_wait<kSirenAhead - 1>();
    __syncthreads();
    const unsigned char* piece = shared_ + read_slot_ * slot_bytes_;
    read_slot_ = (read_slot_ + 1) % kSirenSlots;
    fetch();
    return piece;
  }

  __device__ void fetch() {
    if (tiles_ > 0) {
      const SirenPackedLayer& layer = plan_.layer[layer_];
      unsigned char* to = shared_ + write_slot_ * slot_bytes_;
      const unsigned char* chunks = image_ + layer.packed;
      if (!backward_) {
        copy(to, chunks + int64_t(index_) * layer.chunk_bytes, layer.chunk_bytes);
      } else {
        const int bytes = plan_.parts * kSirenBlockBytes;
        for (int c = 0; c < layer.output_chunks; ++c)
          copy(to + c * bytes, chunks + int64_t(c) * layer.chunk_bytes + kSirenHeaderBytes + index_ * bytes, bytes);
      }
      write_slot_ = (write_slot_ + 1) % kSirenSlots;
      advance();
    }
    cp_async_commit();
  }

  __device__ void advance() {
    const SirenPackedLayer& layer = plan_.layer[layer_];
    if (++index_ < (backward_ ? siren_chunks(layer.inputs) : layer.output_chunks)) return;
    index_ = 0;
    layer_ += backward_ ? -1 : 1;
    if (!backward_ && layer_ == (gradients_ ? plan_.sines : plan_.layers)) {
      backward_ = gradients_;
      layer_ = gradients_ ? plan_.layers - 1 : 0;
      tiles_ -= !gradients_;
    }
    if (backward_ && layer_ == 0) {
      backward_ = false;
      --tiles_;
    }
  }

  const SirenPlan& plan_;
  const unsigned char* image_;
  unsigned char* shared_;
  bool resident_, gradients_, backward_ = false;
  int tiles_;
  int layer_ = 0, index_ = 0, read_slot_ = 0, write_slot_ = 0, slot_bytes_ = 0;
};

}  // namespace cips3d
