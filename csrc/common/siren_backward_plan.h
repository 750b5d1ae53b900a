// What a block of a SIREN backward kernel keeps where.
//
// A block computes the gradients of `warps` x 16 points at a time, layer by layer from the last: each warp has its
// points' gradients in registers as mma operands, and all warps together sum the weights' gradients over the points.
//
//   shared    the weights (siren_weights.cuh); the gradients of the layer's phases and its inputs, as 8x8 matrices, for
//             the sums over points; each point's float inputs as float16 pairs, with a 1 for sums of biases; a bound of
//             each warp's next gradients
//   tape      activations and cosines of every layer with a sine, in global memory: of the points in work, not of all
//   partials  the block's sums over its points, in global memory, as accumulators: layer [o chunk][i chunk][n tile]
//             [lane][4], then for the float inputs and the bias [o chunk][lane][4]
//
// The density head's gradient is one more output chunk of layer `trunk` (which reads the same activations), its first
// two channels the high and low part; where there is no such layer, that chunk alone is the layer.
#pragma once
#include "common/siren_plan.h"

namespace cips3d {

constexpr int kSirenMostWarps = 8;
constexpr int kSirenAccumulatorFloats = 128;  // of one m16n8 tile
constexpr int kSirenExtraBytes = 256;         // float inputs of one warp's points, 16 x 8 float16

// What keeps an image's gradients in float16's range (siren_gradients.cuh): [l] the growth of layer l, [0] that of the
// density, [last] the scale at the top. Behind those of all images: maxima of the outputs' gradients.
constexpr int kSirenGrowths = kSirenMaxLayers + 1;
constexpr int kSirenMaximumBlocks = 128;
inline int64_t siren_growth_elements(int64_t images) { return images * kSirenGrowths + kSirenMaximumBlocks; }

struct SirenBackwardPlan {
  SirenPlan net;
  int warps;
  bool resident;                                                   // the weights
  int gradient_tiles, input_tiles;                                 // chunks of the largest layer in shared memory
  int64_t weight_bytes, shared_bytes, tape_bytes, partial_floats;  // of one block
  int64_t partials[kSirenMaxLayers];                               // where a layer's sums start

  CIPS3D_HOST_DEVICE int last_layer() const { return net.layers > net.trunk ? net.layers - 1 : net.trunk; }
  CIPS3D_HOST_DEVICE int gradient_chunks(int l) const {
    return (l < net.layers ? net.layer[l].output_chunks : 0) + (l == net.trunk ? 1 : 0);
  }
  CIPS3D_HOST_DEVICE int input_chunks(int l) const { return l == 0 ? 0 : net.layer[l - 1].output_chunks; }
  CIPS3D_HOST_DEVICE int64_t extras(int l) const {
    return partials[l] + int64_t(gradient_chunks(l)) * input_chunks(l) * 2 * kSirenAccumulatorFloats;
  }
  CIPS3D_HOST_DEVICE int64_t tile_bytes(int chunks) const {
    return int64_t(chunks) * warps * net.parts * kSirenBlockBytes;
  }
};

// `weight_bytes(resident)` of shared memory hold the weights.
template <class WeightBytes>
SirenBackwardPlan make_siren_backward_plan(const SirenPlan& net, int warps, bool resident,
                                           const WeightBytes& weight_bytes) {
  SirenBackwardPlan plan{};
  plan.net = net;
  plan.warps = warps;
  plan.resident = resident;
  for (int l = 0; l <= plan.last_layer(); ++l) {
    plan.gradient_tiles = std::max(plan.gradient_tiles, plan.gradient_chunks(l));
    plan.input_tiles = std::max(plan.input_tiles, plan.input_chunks(l));
    plan.partials[l] = plan.partial_floats;
    plan.partial_floats = plan.extras(l) + int64_t(plan.gradient_chunks(l)) * kSirenAccumulatorFloats;
  }
  const SirenPackedLayer& last = net.layer[net.sines - 1];
  plan.tape_bytes = 2 * plan.tile_bytes(last.first_chunk + last.output_chunks);
  plan.weight_bytes = int64_t(weight_bytes(resident));
  plan.shared_bytes = plan.weight_bytes + plan.tile_bytes(plan.gradient_tiles + plan.input_tiles) +
                      2 * warps * kSirenExtraBytes + kSirenMostWarps * int64_t(sizeof(float));
  return plan;
}

}  // namespace cips3d
