// A FiLM-SIREN field for the CPU kernels: where its layers lie in working memory, in plain numbers and pointers. The
// kernels are siren_cpu_tile.h (forward) and siren_cpu_backward.h.
//
// Tiles       up to kSirenTileRows points of one image. One row a point: the points, each sine layer's output (and
//             cosine).
// Packed      every weight in panels (cpu_gemm.h), every bias; the colour layer's inputs are [trunk, direction], so
//             that the trunk's rows serve it as they are. Written once a call, read by all threads.
// Gradients   accumulators of the size of the packed weights, two of each worker: sums over one image's points of
//             grad_phase^T input, which give that image's gamma, and their sums over images times g, the weights'.
#pragma once
#include "common/cpu_tiles.h"
#include "common/siren.h"

namespace cips3d {

// More than kTileRows: between two tiles the weights and accumulators of a field pass through the caches, and those of
// eight layers of 256 channels do not fit in L2.
inline constexpr int64_t kSirenTileRows = 192;
static_assert(kSirenTileRows % kBlockPadding == 0 && kSirenTileRows <= kMostTileRows);

// One linear map. Offsets count elements of T; panels hold what products multiply (cpu_gemm.h), which takes no more.
struct SirenCpuMap {
  SirenLayer layer;
  int64_t rotation;                   // input k of the map is column (k + rotation) % inputs of its weight
  int64_t panels, grad_panels, bias;  // in the packed weights: for x W^T, for grad W, padded(outputs)
  int64_t gradient, gradient_bias;    // in an accumulator: [padded(outputs, kBlockPadding), row_stride(inputs)]
  int64_t film;                       // sine layers: first channel in a tile's g and h, which are padded

  // The column of the weight that is input k.
  CIPS3D_HOST_DEVICE int64_t column(int64_t k) const {
    return k + rotation < layer.inputs ? k + rotation : k + rotation - layer.inputs;
  }
};

struct SirenCpuLayout {
  SirenNetwork net;
  SirenCpuMap sine[kSirenMostSineLayers], density, feature;
  int64_t stride[kSirenMostSineLayers + 1];  // of a row of points (0) and of the outputs of sine layer k - 1 (k)
  int64_t packed, accumulator;               // elements
  int64_t films;                             // channels of g or h, padded

  // Of one row: the outputs of all sine layers, and the longest.
  CIPS3D_HOST_DEVICE int64_t all_outputs() const {
    int64_t elements = 0;
    for (int k = 0; k < net.sine_layers(); ++k) elements += stride[k + 1];
    return elements;
  }
  CIPS3D_HOST_DEVICE int64_t longest_output() const {
    int64_t most = 0;
    for (int k = 0; k < net.sine_layers(); ++k) most = stride[k + 1] > most ? stride[k + 1] : most;
    return most;
  }
};

inline SirenCpuLayout make_siren_cpu_layout(const SirenNetwork& net) {
  SirenCpuLayout layout{};
  layout.net = net;
  const auto map = [&](const SirenLayer& layer) {
    SirenCpuMap made{};
    made.layer = layer;
    made.panels = layout.packed;
    made.grad_panels = made.panels + layer.inputs * padded(layer.outputs);
    made.bias = made.grad_panels + layer.outputs * padded(layer.inputs);
    layout.packed = made.bias + padded(layer.outputs);
    made.gradient = layout.accumulator;
    made.gradient_bias = made.gradient + padded(layer.outputs, kBlockPadding) * row_stride(layer.inputs);
    layout.accumulator = made.gradient_bias + padded(layer.outputs);
    return made;
  };
  for (int k = 0; k < net.sine_layers(); ++k) {
    layout.sine[k] = map(net.sine[k]);
    layout.sine[k].film = layout.films;
    layout.films += padded(net.sine[k].outputs);
    layout.stride[k] = row_stride(net.sine[k].inputs);
  }
  if (net.view_directions) layout.sine[net.trunk_layers].rotation = kSirenCoordinates;
  if (!net.has_colour) layout.stride[net.trunk_layers] = row_stride(net.last_trunk().outputs);
  if (net.has_colour) layout.stride[net.trunk_layers + 1] = row_stride(net.colour().outputs);
  layout.density = map(net.density);
  layout.feature = map(net.feature);
  return layout;
}

// A field whose weights are packed (pack_siren). `T`: float, or double for double.
struct SirenCpuField {
  SirenCpuLayout layout;
  const void *parameters, *gamma, *beta;  // of the call's dtype; gamma and beta null where absent
  void* packed;                           // T
  bool for_gradients;                     // whether the panels for gradients are packed too
};

// What the backward of a field adds up, for any number of workers.
struct SirenCpuGradients {
  int64_t workers, batch, tiles_per_image;
  bool wants_weights, wants_points;  // weights: parameters or gamma
  void* accumulators;                // T [workers, 2, layout.accumulator]
  void* film_sums;  // T [workers + batch, 2, layout.films]: of each worker's part of an image, grad_g, grad_h
  void *grad_parameters, *grad_gamma, *grad_beta;  // of the call's dtype; null where unwanted

  // Workers take the tiles in order (parallel_shares), so worker + image numbers the parts.
  CIPS3D_HOST_DEVICE int64_t part(int64_t worker, int64_t image) const { return worker + image; }
  CIPS3D_HOST_DEVICE bool has_part(int64_t worker, int64_t image) const {
    const int64_t tiles = batch * tiles_per_image;
    return tiles * worker / workers < (image + 1) * tiles_per_image &&
           tiles * (worker + 1) / workers > image * tiles_per_image;
  }
};

}  // namespace cips3d
