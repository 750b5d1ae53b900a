// How a SIREN field (siren_field, render_rays) is laid out for the tensor-core kernels: its layers, and each image's
// weights with the FiLM frequency folded in, packed in the order in which the kernels read them.
//
//   x_0 = point,  x_{l+1} = sin(g_l (W_l x_l + b_l) + h_l) = sin(A_l x_l + a_l),  A_l = g_l W_l,  a_l = g_l b_l + h_l
//
// Weights are packed by chunk: 16 outputs of one layer.
//   [16] float4      the three float inputs' weights (position, direction; 0 where there are none) and a_l
//   [16] float       the density head's weights of these outputs (last trunk layer)
//   [k][part] block  A_l for 16 inputs k: 16x16 float16 as four 8x8 matrices (n 0-7 k 0-7, n 0-7 k 8-15, n 8-15 k 0-7,
//                    n 8-15 k 8-15), the order of ldmatrix.x4; with two parts value = first + second
// Positions and directions are never rounded to 16 bits: phases reach 50 rad, an ulp of float16 there is 0.03.
#pragma once
#include <algorithm>
#include <cstdint>

#include "common/siren.h"

namespace cips3d {

constexpr int kSirenChunk = 16;         // channels: an mma's k, and two of its n
constexpr int kSirenBlockBytes = 512;   // 16 x 16 float16
constexpr int kSirenHeaderBytes = 320;  // of a chunk, before its blocks
constexpr int kSirenDensityOffset = 256;
constexpr int kSirenInputGroup = 4;  // chunks of inputs that the product takes at once; inputs are padded to it with 0
constexpr int kSirenMaxLayers = kSirenMostSineLayers + 1;  // and the feature layer

// The float inputs that a layer has beside its matrix product; they are the first three columns of its weight.
enum class SirenVector : int { kNone, kPoint, kDirection };

struct SirenPackedLayer {
  int inputs, outputs;  // of the matrix product; the first layer has no matrix inputs
  int input_chunks;     // padded to kSirenInputGroup
  int output_chunks;
  int first_chunk;  // output chunks of the layers before
  int chunk_bytes;
  SirenVector vector;
  int film;              // first column in gamma and beta, -1: no FiLM and no sine
  int64_t weight, bias;  // where they start in `parameters`
  int64_t packed;        // byte where the layer's chunks start
};

struct SirenPlan {
  int parts;   // float16 numbers that make up one operand: 1, or 2 for float's accuracy
  int trunk;   // the density head reads layer trunk - 1
  int sines;   // layers with a sine: 0 ... sines - 1
  int layers;  // and the feature layer, if there is one
  int64_t density_weight, density_bias;
  int64_t packed_bytes;  // of one image
  SirenPackedLayer layer[kSirenMaxLayers];

  int chunks() const {
    int count = 0;
    for (int l = 0; l < layers; ++l) count += layer[l].output_chunks;
    return count;
  }
  // Channels that a warp holds at once.
  int widest() const {
    int width = 0;
    for (int l = 0; l < sines; ++l) width = std::max(width, layer[l].outputs);
    return width;
  }
};

CIPS3D_HOST_DEVICE int siren_chunks(int channels) { return (channels + kSirenChunk - 1) / kSirenChunk; }

// Widths above what int holds are beyond these kernels; the caller looks at the widths first.
inline SirenPlan make_siren_plan(const SirenNetwork& network, int parts) {
  SirenPlan plan{};
  plan.parts = parts;
  plan.trunk = network.trunk_layers;
  plan.sines = network.sine_layers();
  plan.density_weight = network.density.weight;
  plan.density_bias = network.density.bias;
  const auto add = [&](const SirenLayer& from, SirenVector vector, bool sine) {
    SirenPackedLayer& layer = plan.layer[plan.layers];
    layer.inputs = int(from.inputs - (vector == SirenVector::kNone ? 0 : kSirenCoordinates));
    layer.outputs = int(from.outputs);
    layer.input_chunks = (siren_chunks(layer.inputs) + kSirenInputGroup - 1) / kSirenInputGroup * kSirenInputGroup;
    layer.output_chunks = siren_chunks(layer.outputs);
    layer.first_chunk = plan.chunks();
    layer.chunk_bytes = kSirenHeaderBytes + layer.input_chunks * parts * kSirenBlockBytes;
    layer.vector = vector;
    layer.film = sine ? int(from.film) : -1;
    layer.weight = from.weight;
    layer.bias = from.bias;
    layer.packed = plan.packed_bytes;
    plan.packed_bytes += int64_t(layer.output_chunks) * layer.chunk_bytes;
    ++plan.layers;
  };
  for (int l = 0; l < plan.sines; ++l) {
    const bool directions = l == plan.trunk && network.view_directions;
    add(network.sine[l],
        l == 0       ? SirenVector::kPoint
        : directions ? SirenVector::kDirection
                     : SirenVector::kNone,
        true);
  }
  if (network.feature.outputs > 0) add(network.feature, SirenVector::kNone, false);
  return plan;
}

}  // namespace cips3d
