// Launchers of the volume rendering kernels.
#include "volume_render/volume_render_backward.cuh"
#include "volume_render/volume_render_forward.cuh"

namespace cips3d {

// Many waves on every GPU; further rays are taken by the grid-stride loops. Fixed, so that beta's gradient is summed in
// the same order everywhere.
constexpr int64_t kMaxBlocks = 16384;
constexpr int64_t kSharedBytes = 48 << 10;  // of a block, without opting in to more

template <class T>
static VolumeRenderInputs<T> typed(const VolumeRenderInputs<void>& in) {
  const auto as = [](const void* pointer) { return static_cast<const T*>(pointer); };
  return {as(in.density), as(in.features), as(in.depths), as(in.noise),
          as(in.beta),    as(in.ray_norm), in.sizes,      in.options};
}

template <class T>
static VolumeRenderResults<T> typed(const VolumeRenderResults<void>& out) {
  const auto as = [](void* pointer) { return static_cast<T*>(pointer); };
  return {as(out.feature), as(out.depth), as(out.weights), as(out.transmittance), as(out.accumulation)};
}

template <class T>
static VolumeRenderResultGradients<T> typed(const VolumeRenderResultGradients<void>& grads) {
  const auto as = [](const void* pointer) { return static_cast<const T*>(pointer); };
  return {as(grads.feature), as(grads.depth), as(grads.weights), as(grads.transmittance), as(grads.accumulation)};
}

template <class T>
static VolumeRenderInputGradients<T> typed(const VolumeRenderInputGradients<void>& out) {
  const auto as = [](void* pointer) { return static_cast<T*>(pointer); };
  return {as(out.density), as(out.features), as(out.depths), as(out.beta), as(out.ray_norm), out.beta_partials};
}

// How rows of features at these addresses are read and written, the inputs' among them; null fits everything.
template <class T>
static ChannelAccess channel_access(const VolumeRenderInputs<T>& in, std::initializer_list<const T*> rows) {
  const int64_t channels = in.sizes.channels;
  bool aligned = channels > 0 && vector_aligned(in.features, in.sizes.feature_stride);
  for (const T* pointer : rows) aligned = aligned && vector_aligned(pointer, channels);
  if (aligned) return ChannelAccess::kVector;
  return channels <= kWarpSize ? ChannelAccess::kSingle : ChannelAccess::kStrided;
}

template <class T, ChannelAccess kAccess>
static void launch_forward(const VolumeRenderInputs<T>& in, const VolumeRenderResults<T>& out, cudaStream_t stream) {
  const int64_t slabs = std::max<int64_t>(1, ceil_div(in.sizes.channels, ChannelLanes<T, kAccess>::kSlab));
  const unsigned blocks = grid_size(in.sizes.rays * slabs, kVolumeRenderWarps, kMaxBlocks);
  CIPS3D_LAUNCH((volume_render_forward_kernel<T, kAccess>), blocks, kVolumeRenderThreads, 0, stream, in, out);
}

template <class T>
static int64_t starts_bytes(int64_t samples) {
  return ceil_div(samples, kWarpSize) * kVolumeRenderWarps * int64_t{sizeof(RayCarry<Compute<T>>)};
}

template <class T, ChannelAccess kAccess>
static void launch_backward(const VolumeRenderInputs<T>& in, const VolumeRenderResultGradients<T>& grads,
                            const VolumeRenderInputGradients<T>& out, cudaStream_t stream) {
  const unsigned blocks = unsigned(volume_render_beta_partials(in.sizes.rays));
  const size_t shared_bytes = size_t(starts_bytes<T>(in.sizes.samples));
  CIPS3D_LAUNCH((volume_render_backward_kernel<T, kAccess>), blocks, kVolumeRenderThreads, shared_bytes, stream, in,
                grads, out);
  if (out.beta)
    CIPS3D_LAUNCH((sum_beta_partials_kernel<T>), 1, kWarpSize, 0, stream, out.beta_partials, int(blocks), out.beta);
}

int64_t volume_render_beta_partials(int64_t rays) { return grid_size(rays, kVolumeRenderWarps, kMaxBlocks); }

int64_t volume_render_backward_max_samples(CudaDtype dtype) {
  const int64_t chunk_bytes = dtype == CudaDtype::kFloat64 ? starts_bytes<double>(1) : starts_bytes<float>(1);
  // the block's sums of beta's gradient lie in the same memory
  return (kSharedBytes - int64_t{sizeof(double)} * kVolumeRenderWarps) / chunk_bytes * kWarpSize;
}

cudaError_t launch_volume_render_forward(CudaDtype dtype, const VolumeRenderInputs<void>& in,
                                         const VolumeRenderResults<void>& out, cudaStream_t stream) {
  if (in.sizes.rays == 0) return cudaSuccess;
  CIPS3D_DISPATCH_DTYPE(dtype, T, {
    const auto typed_in = typed<T>(in);
    const auto typed_out = typed<T>(out);
    switch (channel_access<T>(typed_in, {typed_out.feature})) {
      case ChannelAccess::kVector:
        launch_forward<T, ChannelAccess::kVector>(typed_in, typed_out, stream);
        break;
      case ChannelAccess::kSingle:
        launch_forward<T, ChannelAccess::kSingle>(typed_in, typed_out, stream);
        break;
      case ChannelAccess::kStrided:
        launch_forward<T, ChannelAccess::kStrided>(typed_in, typed_out, stream);
        break;
    }
  });
  return launch_error();
}

cudaError_t launch_volume_render_backward(CudaDtype dtype, const VolumeRenderInputs<void>& in,
                                          const VolumeRenderResultGradients<void>& grads,
                                          const VolumeRenderInputGradients<void>& out, cudaStream_t stream) {
  if (in.sizes.rays == 0) return cudaSuccess;
  CIPS3D_DISPATCH_DTYPE(dtype, T, {
    const auto typed_in = typed<T>(in);
    const auto typed_grads = typed<T>(grads);
    const auto typed_out = typed<T>(out);
    switch (channel_access<T>(typed_in, {typed_grads.feature, typed_out.features})) {
      case ChannelAccess::kVector:
        launch_backward<T, ChannelAccess::kVector>(typed_in, typed_grads, typed_out, stream);
        break;
      case ChannelAccess::kSingle:
        launch_backward<T, ChannelAccess::kSingle>(typed_in, typed_grads, typed_out, stream);
        break;
      case ChannelAccess::kStrided:
        launch_backward<T, ChannelAccess::kStrided>(typed_in, typed_grads, typed_out, stream);
        break;
    }
  });
  return launch_error();
}

}  // namespace cips3d
