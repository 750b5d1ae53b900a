// How a warp reads and writes the features [rows,C] of a chunk of samples: `lanes` lanes (a power of 2) share a sample,
// 32 / lanes samples go at once, and one lane holds kValues channels of its sample. More channels than the warp holds
// are split into slabs.
#pragma once
#include "common/cuda_platform.h"

namespace cips3d {

enum class ChannelAccess {
  kVector,   // 16 bytes a lane: rows are aligned
  kSingle,   // one channel a lane: at most 32 channels, rows of any alignment
  kStrided,  // some channels a lane, 32 apart: more channels, rows of any alignment
};

constexpr int kStridedChannels = 4;  // a slab of 128: few enough registers, few enough scans of the ray
constexpr int kSamplesInFlight = 4;  // samples a lane has under way: 2 KB a warp, enough to cover the memory's latency

template <class T, ChannelAccess kAccess>
struct ChannelLanes {
  using Num = Compute<T>;
  static constexpr int kValues = kAccess == ChannelAccess::kVector    ? kVector<T>
                                 : kAccess == ChannelAccess::kStrided ? kStridedChannels
                                                                      : 1;
  static constexpr int kSlab = kWarpSize * kValues;

  int channels;
  int lanes = 1;  // of one sample
  int samples_at_once;
  int sample;  // this lane's among samples_at_once
  int lane;    // of its sample

  __device__ __forceinline__ explicit ChannelLanes(int64_t channel_count) : channels(int(channel_count)) {
    constexpr int kNeighbours = kAccess == ChannelAccess::kVector ? kValues : 1;
    while (lanes < kWarpSize && lanes * kNeighbours < channels) lanes *= 2;
    samples_at_once = kWarpSize / lanes;
    sample = threadIdx.x % kWarpSize / lanes;
    lane = threadIdx.x % lanes;
  }

  // At least one: rays without features are rendered too.
  __device__ __forceinline__ int slabs() const { return channels > kSlab ? (channels - 1) / kSlab + 1 : 1; }

  __device__ __forceinline__ int channel(int slab, int value) const {
    return slab * kSlab + (kAccess == ChannelAccess::kVector ? lane * kValues + value : value * kWarpSize + lane);
  }

  // Values of the lane's channels in a row of features; 0 for channels beyond the last.
  __device__ __forceinline__ void load(Num (&values)[kValues], const T* row, int slab) const {
    if constexpr (kAccess == ChannelAccess::kVector) {
      Vector<T> loaded{};
      if (channel(slab, 0) < channels) loaded = load_vector(row + channel(slab, 0));
#pragma unroll
      for (int v = 0; v < kValues; ++v) values[v] = Num(loaded.element[v]);
    } else {
#pragma unroll
      for (int v = 0; v < kValues; ++v) values[v] = channel(slab, v) < channels ? Num(row[channel(slab, v)]) : Num(0);
    }
  }

  __device__ __forceinline__ void store(T* row, int slab, const Num (&values)[kValues]) const {
    if constexpr (kAccess == ChannelAccess::kVector) {
      Vector<T> stored;
#pragma unroll
      for (int v = 0; v < kValues; ++v) stored.element[v] = T(values[v]);
      if (channel(slab, 0) < channels) store_vector(row + channel(slab, 0), stored);
    } else {
#pragma unroll
      for (int v = 0; v < kValues; ++v)
        if (channel(slab, v) < channels) row[channel(slab, v)] = T(values[v]);
    }
  }

  // Sum over the lanes of one sample, in each of them.
  __device__ __forceinline__ Num sum_of_sample(Num value) const {
    for (int step = lanes / 2; step > 0; step /= 2) value += __shfl_xor_sync(kFullWarp, value, step);
    return value;
  }

  // Sum over the samples that go at once, in each of them.
  __device__ __forceinline__ Num sum_over_samples(Num value) const {
    for (int step = kWarpSize / 2; step >= lanes; step /= 2) value += __shfl_xor_sync(kFullWarp, value, step);
    return value;
  }
};

}  // namespace cips3d
