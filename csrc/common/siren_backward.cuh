// A SIREN field's backward for one block's points: what the warps do with the layout of siren_backward_plan.h.
#pragma once
#include "common/siren_forward.cuh"
#include "common/siren_gradients.cuh"

namespace cips3d {

// A fragment in global memory, where each lane reads back what it wrote.
template <int Parts>
__device__ __forceinline__ void store_fragment(unsigned char* tile, const uint32_t (&fragment)[Parts][4]) {
  uint32_t* to = reinterpret_cast<uint32_t*>(tile) + threadIdx.x % kWarpSize * 4;
#pragma unroll
  for (int part = 0; part < Parts; ++part) {
    Vector<uint32_t> words;
#pragma unroll
    for (int i = 0; i < 4; ++i) words.element[i] = fragment[part][i];
    store_vector(to + part * (kSirenBlockBytes / 4), words);
  }
}
template <int Parts>
__device__ __forceinline__ void load_fragment(const unsigned char* tile, uint32_t (&fragment)[Parts][4]) {
  const uint32_t* from = reinterpret_cast<const uint32_t*>(tile) + threadIdx.x % kWarpSize * 4;
#pragma unroll
  for (int part = 0; part < Parts; ++part) {
    const Vector<uint32_t> words = load_vector(from + part * (kSirenBlockBytes / 4));
#pragma unroll
    for (int i = 0; i < 4; ++i) fragment[part][i] = words.element[i];
  }
}

// values *= the numbers of a fragment
template <int Parts>
__device__ __forceinline__ void scale_by_fragment(SirenSums<1>& values, const uint32_t (&fragment)[Parts][4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float2 factor = unpack_float16(fragment[0][i]);
    if (Parts == 2) {
      const float2 rest = unpack_float16(fragment[Parts - 1][i]);
      factor.x += rest.x;
      factor.y += rest.y;
    }
    values[0][i / 2][i % 2 * 2] *= factor.x;
    values[0][i / 2][i % 2 * 2 + 1] *= factor.y;
  }
}

// sums += gradients of the phases times the weights of 16 inputs
template <int Width, int Parts>
__device__ __forceinline__ void multiply_back(SirenSums<1>& sums, const SirenActivations<Width, 1, Parts>& gradients,
                                              const SirenSlab& slab, int output_chunks) {
  const unsigned char* row = slab.blocks + threadIdx.x % kWarpSize * kVectorBytes;
#pragma unroll
  for (int group = 0; group < Width / kSirenChunk; group += kSirenInputGroup) {
    if (group >= output_chunks) continue;
#pragma unroll
    for (int c = group; c < group + kSirenInputGroup; ++c) {
      uint32_t b[Parts][2][2];
#pragma unroll
      for (int part = 0; part < Parts; ++part) {
        uint32_t read[4];  // beyond the last chunk: any weights, the gradients there are 0
        ldmatrix_x4<true>(read, row + min(c, output_chunks - 1) * slab.stride + part * kSirenBlockBytes);
#pragma unroll
        for (int i = 0; i < 4; ++i) b[part][i % 2][i / 2] = read[i];
      }
      multiply_block<1, Parts>(sums, gradients.fragment[c], b);
    }
  }
}

// What the threads of a block share, and where this block's parts of working memory are.
struct SirenBackwardBlock {
  const SirenBackwardPlan& plan;
  unsigned char *gradients, *inputs;  // shared: [chunk][warp][part] matrices of the layer in work
  unsigned char* extras;              // shared: [point, direction][warp] 16 rows of 8 float16
  float* bounds;                      // shared: [warp]
  unsigned char* tape;
  float* partials;

  __device__ SirenBackwardBlock(const SirenBackwardPlan& plan, unsigned char* shared, unsigned char* tapes,
                                float* all_partials)
      : plan(plan),
        gradients(shared + plan.weight_bytes),
        inputs(gradients + plan.tile_bytes(plan.gradient_tiles)),
        extras(inputs + plan.tile_bytes(plan.input_tiles)),
        bounds(reinterpret_cast<float*>(extras + 2 * plan.warps * kSirenExtraBytes)),
        tape(tapes + blockIdx.x * plan.tape_bytes),
        partials(all_partials + blockIdx.x * plan.partial_floats) {}

  __device__ __forceinline__ int warp() const { return int(threadIdx.x) / kWarpSize; }
  __device__ __forceinline__ int tile_offset(int chunk, int warp) const {
    return (chunk * plan.warps + warp) * plan.net.parts * kSirenBlockBytes;
  }
  __device__ __forceinline__ unsigned char* activations(int l, int c) const {
    return tape + tile_offset(2 * (plan.net.layer[l].first_chunk + c), warp());
  }
  __device__ __forceinline__ unsigned char* cosines(int l, int c) const {
    return tape + tile_offset(2 * (plan.net.layer[l].first_chunk + c) + 1, warp());
  }
};

// Row r of this warp's points: [x y z as float16, what that leaves, 1, 0]. Lanes of row r's quad share the work.
__device__ __forceinline__ void store_extras(unsigned char* extras, int warp, const SirenVectors<1>& vectors) {
  const int lane = int(threadIdx.x) % kWarpSize;
  if (lane % 4 > 1) return;
  const int r = lane % 4, row = lane / 4 + 8 * r;
  float x[3], rest[3];
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    x[i] = r ? vectors[1][i] : vectors[0][i];
    rest[i] = x[i] - unpack_float16(pack_float16(x[i], 0)).x;
  }
  Vector<uint32_t> words;
  words.element[0] = pack_float16(x[0], x[1]);
  words.element[1] = pack_float16(x[2], rest[0]);
  words.element[2] = pack_float16(rest[1], rest[2]);
  words.element[3] = pack_float16(1, 0);
  store_vector(reinterpret_cast<uint32_t*>(extras + warp * kSirenExtraBytes + row * kVectorBytes), words);
}

// Adds accumulators times a power of two to the block's partial sums; the block's first points find nothing there.
__device__ __forceinline__ void add_partial(float* to, const float (&sums)[4], float factor, bool first) {
  float4* at = reinterpret_cast<float4*>(to) + threadIdx.x % kWarpSize;
  float4 value = make_float4(factor * sums[0], factor * sums[1], factor * sums[2], factor * sums[3]);
  if (!first) {
    const float4 before = *at;
    value = make_float4(before.x + value.x, before.y + value.y, before.z + value.z, before.w + value.w);
  }
  *at = value;
}

constexpr int kSirenTaskOutputs = 2, kSirenTaskInputs = 4;  // chunks of one warp's share of a weight's gradient

// One task: gradients^T times inputs, summed over the block's points, for up to 32 outputs and 64 inputs; with the
// first inputs also gradients^T times the float inputs and 1. All times `factor`.
template <int Parts>
__device__ __forceinline__ void weight_gradient(const SirenBackwardBlock& block, int l, int first_output,
                                                int first_input, const unsigned char* extras, float factor,
                                                bool first) {
  constexpr int O = kSirenTaskOutputs, I = kSirenTaskInputs;
  const SirenBackwardPlan& plan = block.plan;
  const int output_chunks = plan.gradient_chunks(l), input_chunks = plan.input_chunks(l);
  const int lane_offset = int(threadIdx.x) % kWarpSize * kVectorBytes;
  SirenSums<O> sums[I] = {};
  float extra[O][4] = {};
#pragma unroll 1
  for (int w = 0; w < plan.warps; ++w) {
    uint32_t a[O][Parts][4];
#pragma unroll
    for (int o = 0; o < O; ++o) {
      const int chunk = min(first_output + o, output_chunks - 1);
#pragma unroll
      for (int part = 0; part < Parts; ++part) {
        uint32_t read[4];
        ldmatrix_x4<true>(read, block.gradients + block.tile_offset(chunk, w) + part * kSirenBlockBytes + lane_offset);
#pragma unroll
        for (int i = 0; i < 4; ++i) a[o][part][i] = read[i % 2 * 2 + i / 2];
      }
    }
#pragma unroll
    for (int k = 0; k < I; ++k) {
      if (first_input + k >= input_chunks) continue;
      uint32_t b[Parts][2][2];
#pragma unroll
      for (int part = 0; part < Parts; ++part) {
        uint32_t read[4];
        ldmatrix_x4<true>(read,
                          block.inputs + block.tile_offset(first_input + k, w) + part * kSirenBlockBytes + lane_offset);
#pragma unroll
        for (int i = 0; i < 4; ++i) b[part][i / 2][i % 2] = read[i];
      }
      multiply_block<O, Parts>(sums[k], a, b);
    }
    if (first_input == 0) {
      uint32_t read[4];
      ldmatrix_x4<true>(read, extras + w * kSirenExtraBytes + lane_offset % kSirenExtraBytes);
      const uint32_t b[2] = {read[0], read[1]};
#pragma unroll
      for (int o = 0; o < O; ++o)
#pragma unroll
        for (int part = Parts - 1; part >= 0; --part) mma_float16(extra[o], a[o][part], b);
    }
  }
#pragma unroll
  for (int o = 0; o < O; ++o) {
    const int chunk = first_output + o;
    if (chunk >= output_chunks) continue;
    if (first_input == 0)
      add_partial(block.partials + plan.extras(l) + chunk * kSirenAccumulatorFloats, extra[o], factor, first);
    float* tile =
        block.partials + plan.partials[l] + (int64_t(chunk) * input_chunks + first_input) * 2 * kSirenAccumulatorFloats;
#pragma unroll
    for (int k = 0; k < I; ++k)
#pragma unroll
      for (int n = 0; n < 2; ++n)
        if (first_input + k < input_chunks)
          add_partial(tile + (k * 2 + n) * kSirenAccumulatorFloats, sums[k][o][n], factor, first);
  }
}

// All weights' gradients of one layer, the tasks spread over the warps. Barriers before and after are the caller's.
template <int Parts>
__device__ __forceinline__ void weight_gradients(const SirenBackwardBlock& block, int l, float factor, bool first) {
  const SirenBackwardPlan& plan = block.plan;
  const int rows = (plan.gradient_chunks(l) + kSirenTaskOutputs - 1) / kSirenTaskOutputs;
  const int columns = max(1, (plan.input_chunks(l) + kSirenTaskInputs - 1) / kSirenTaskInputs);
  const bool direction = l < plan.net.layers && plan.net.layer[l].vector == SirenVector::kDirection;
  const unsigned char* extras = block.extras + (direction ? plan.warps * kSirenExtraBytes : 0);
#pragma unroll 1
  for (int task = block.warp(); task < rows * columns; task += plan.warps)
    weight_gradient<Parts>(block, l, task / columns * kSirenTaskOutputs, task % columns * kSirenTaskInputs, extras,
                           factor, first);
}

// The density head's gradient as an output chunk: its high and low part, to 22 bits, in the first two channels.
template <int Parts>
__device__ __forceinline__ void density_fragment(const float (&gradient)[2], uint32_t (&fragment)[Parts][4]) {
#pragma unroll
  for (int part = 0; part < Parts; ++part)
#pragma unroll
    for (int i = 0; i < 4; ++i) fragment[part][i] = 0;
  if (threadIdx.x % 4 != 0) return;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float high = unpack_float16(pack_float16(gradient[r], 0)).x;
    fragment[0][r] = pack_float16(high, gradient[r] - high);
  }
}

// Puts what the sums over points of layer l read, beside the gradients of its phases, into shared memory: the density's
// gradient, and the layer's inputs from the tape.
template <int Parts>
__device__ __forceinline__ void store_operands(const SirenBackwardBlock& block, int l,
                                               const float (&density_gradient)[2]) {
  if (l == block.plan.net.trunk) {
    uint32_t fragment[Parts][4];
    density_fragment(density_gradient, fragment);
    const int chunk = block.plan.gradient_chunks(l) - 1;
    store_matrices(block.gradients + block.tile_offset(chunk, block.warp()), fragment);
  }
  for (int k = 0; k < block.plan.input_chunks(l); ++k) {
    uint32_t fragment[Parts][4];
    load_fragment(block.activations(l - 1, k), fragment);
    store_matrices(block.inputs + block.tile_offset(k, block.warp()), fragment);
  }
}

// Adds a chunk's share of the gradient of the three float inputs; `chunk` is packed.
__device__ __forceinline__ void add_vector_gradient(SirenVectors<1>& vectors, const SirenSums<1>& gradients,
                                                    const unsigned char* chunk) {
  const float4* header = reinterpret_cast<const float4*>(chunk);
#pragma unroll
  for (int n = 0; n < 2; ++n)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float4 weight = header[n * 8 + threadIdx.x % 4 * 2 + i];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float gradient = gradients[0][n][r * 2 + i];
        vectors[r][0] = fmaf(gradient, weight.x, vectors[r][0]);
        vectors[r][1] = fmaf(gradient, weight.y, vectors[r][1]);
        vectors[r][2] = fmaf(gradient, weight.z, vectors[r][2]);
      }
    }
}

// The gradients in work are `scale` times as large as they are, a power of two for all of the block's points.
struct SirenGradientScale {
  float scale;
  float squares[2];  // of the gradient of each row's phases, summed over this lane's channels
};

__device__ __forceinline__ void add_squares(float (&squares)[2], const SirenSums<1>& gradients) {
#pragma unroll
  for (int n = 0; n < 2; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) squares[i / 2] = fmaf(gradients[0][n][i], gradients[0][n][i], squares[i / 2]);
}

// Leaves in block.bounds what no gradient of layer l - 1's phases, and none of the density, will exceed in this warp.
__device__ __forceinline__ void store_bound(const SirenBackwardBlock& block, int l, const float* growths,
                                            const float (&squares)[2], const float (&density_gradient)[2]) {
  const SirenPlan& net = block.plan.net;
  float bound = 0;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float of_row = l < net.layers ? sqrtf(quad_sum(squares[r])) * growths[l] : 0;
    if (l == net.trunk) of_row = fmaf(fabsf(density_gradient[r]), growths[0], of_row);
    bound = max(bound, l > net.trunk ? max(of_row, fabsf(density_gradient[r])) : of_row);
  }
  for (int lanes = kWarpSize / 2; lanes > 2; lanes /= 2) bound = max(bound, __shfl_xor_sync(kFullWarp, bound, lanes));
  if (threadIdx.x % kWarpSize == 0) block.bounds[block.warp()] = bound;
}

// The power of two that brings all gradients of the layer before, under `scale`, below 2^15: half of float16's largest.
__device__ __forceinline__ float scale_factor(const SirenBackwardBlock& block, float scale) {
  float bound = 0;
  for (int w = 0; w < block.plan.warps; ++w) bound = max(bound, block.bounds[w]);
  return min(siren_power_below(bound, kSirenLargestExponent), ldexpf(1.0f, kSirenMostExponent) / scale);
}

// Gradients of layer l - 1's phases from those of layer l's, both in `next`, and of the density.
template <int Width, int Parts, class VectorGradient>
__device__ __forceinline__ void step_back(const SirenBackwardBlock& block, SirenWeights& weights,
                                          const unsigned char* packed, int l, float factor,
                                          const SirenNextInShared<Width, Parts>& next, SirenGradientScale& scaled,
                                          const float (&density_gradient)[2], const VectorGradient& vector_gradient) {
  const SirenPlan& net = block.plan.net;
  const SirenPackedLayer& before = net.layer[l - 1];
  const bool vectors_wanted = vector_gradient.wanted(before.vector);
  SirenActivations<Width, 1, Parts> gradients;
  next.take(gradients, l < net.layers ? net.layer[l].output_chunks : 0);
  SirenVectors<1> vectors = {};
#pragma unroll(SirenNextInShared<Width, Parts>::kUnroll)
  for (int k = 0; k < Width / kSirenChunk; ++k) {
    if (k >= before.output_chunks) continue;
    const unsigned char* chunk = packed + before.packed + int64_t(k) * before.chunk_bytes;
    uint32_t cosines[Parts][4];
    load_fragment(block.cosines(l - 1, k), cosines);
    SirenSums<1> sums = {};
    if (l < net.layers) multiply_back(sums, gradients, weights.inputs(l, k), net.layer[l].output_chunks);
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        sums[0][n][i] *= factor;
        if (l == net.trunk) {
          const float* weight = reinterpret_cast<const float*>(chunk + kSirenDensityOffset);
          sums[0][n][i] += density_gradient[i / 2] * weight[n * 8 + threadIdx.x % 4 * 2 + i % 2];
        }
      }
    scale_by_fragment(sums, cosines);
    if (vectors_wanted) add_vector_gradient(vectors, sums, chunk);
    add_squares(scaled.squares, sums);
    next.set(l - 1, k, sums);
  }
  if (!vectors_wanted) return;
#pragma unroll
  for (int r = 0; r < 2; ++r)
#pragma unroll
    for (int i = 0; i < 3; ++i) vectors[r][i] = quad_sum(vectors[r][i]);
  vector_gradient(before.vector, vectors, 1 / scaled.scale);
}

// A layer's results on their way to the next: kept on the tape as well.
template <int Width, int Parts>
struct SirenRecorder {
  static constexpr int kUnroll = SirenNextInShared<Width, Parts>::kUnroll;
  const SirenBackwardBlock& block;
  SirenNextInShared<Width, Parts> next;

  __device__ __forceinline__ void set(int l, int chunk, const SirenSums<1>& sums) const {
    uint32_t fragment[Parts][4];
    to_fragment<Parts>(fragment, sums[0]);
    store_matrices(next.tiles + chunk * next.stride, fragment);
    store_fragment(block.activations(l, chunk), fragment);
  }
  __device__ __forceinline__ void take(SirenActivations<Width, 1, Parts>& in, int chunks) const {
    next.take(in, chunks);
  }
};

// Computes the layers again, their activations and cosines onto the tape.
template <int Width, int Parts, class Load>
__device__ __forceinline__ void record_layers(const SirenBackwardBlock& block, SirenWeights& weights,
                                              const SirenNextInShared<Width, Parts>& next, const Load& load) {
  SirenActivations<Width, 1, Parts> activations;
  SirenRecorder<Width, Parts> recorder{block, next};
  const auto activate = [&](int l, int c, const unsigned char*, SirenSums<1>& sums) {
    SirenSums<1> cosines;
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        cosines[0][n][i] = siren_cosine<Parts>(sums[0][n][i]);
        sums[0][n][i] = siren_sine<Parts>(sums[0][n][i]);
      }
    uint32_t fragment[Parts][4];
    to_fragment<Parts>(fragment, cosines[0]);
    store_fragment(block.cosines(l, c), fragment);
  };
  siren_layers(block.plan.net, weights, activations, recorder, load, activate);
}

// Everything for this block's points. load(kind, vectors) as in siren_layers; feature_gradient(c, sums) gives the
// gradient of 16 features, density_gradient that of each row's density, 0 for rows that are no points;
// vector_gradient(kind, vectors, factor) takes those of the float inputs where wanted(kind). All of them come under the
// image's scale at the top; `growths` of the image: see siren_gradients.cuh. `first`: the block's first points.
template <int Width, int Parts, class Load, class FeatureGradient, class VectorGradient>
__device__ __forceinline__ void siren_backward_points(const SirenBackwardBlock& block, SirenWeights& weights,
                                                      const unsigned char* packed, const float* growths,
                                                      const Load& load, const FeatureGradient& feature_gradient,
                                                      float (&density_gradient)[2],
                                                      const VectorGradient& vector_gradient, bool first) {
  const SirenPlan& net = block.plan.net;
  SirenVectors<1> vectors;
  load(SirenVector::kPoint, vectors);
  store_extras(block.extras, block.warp(), vectors);
  if (net.sines > net.trunk && net.layer[net.trunk].vector == SirenVector::kDirection) {
    load(SirenVector::kDirection, vectors);
    store_extras(block.extras + block.plan.warps * kSirenExtraBytes, block.warp(), vectors);
  }
  const SirenNextInShared<Width, Parts> next{block.gradients + block.tile_offset(0, block.warp()),
                                             block.tile_offset(1, 0)};
  record_layers<Width, Parts>(block, weights, next, load);

  const int last = block.plan.last_layer();
  SirenGradientScale scaled{growths[kSirenGrowths - 1], {}};
  for (int c = 0; last < net.layers && c < net.layer[last].output_chunks; ++c) {
    SirenSums<1> sums = {};
    if (last == net.sines) feature_gradient(c, sums);
    add_squares(scaled.squares, sums);
    next.set(last, c, sums);
  }
  if (last == net.sines - 1 && vector_gradient.wanted(net.layer[last].vector)) {
    const SirenVectors<1> none = {};  // a colour layer without features after it has no gradient
    vector_gradient(net.layer[last].vector, none, 1);
  }
#pragma unroll 1
  for (int l = last; l >= 0; --l) {
    store_operands<Parts>(block, l, density_gradient);
    store_bound(block, l, growths, scaled.squares, density_gradient);
    __syncthreads();
    weight_gradients<Parts>(block, l, 1 / scaled.scale, first);
    const float factor = scale_factor(block, scaled.scale);
    __syncthreads();
    if (l == 0) break;
    scaled = {factor * scaled.scale, {}};
    density_gradient[0] *= factor;
    density_gradient[1] *= factor;
    step_back<Width, Parts>(block, weights, packed, l, factor, next, scaled, density_gradient, vector_gradient);
  }
}

}  // namespace cips3d
