// siren_field's CPU kernels: compiled once per SIMD level (simd.h) for each dtype.
//
// Computes  siren_field.h; backward: the gradients of all five inputs, recomputing the layers
// Axes      B batch, N points, R directions, C features; tiles of up to kSirenTileRows points of one image
// Launch    any thread takes any tiles; in backward a worker takes one contiguous share of them
// Traffic   forward reads points and writes features and density once; backward reads points and the gradients of both
// Numerics  siren_cpu_tile.h, siren_cpu_backward.h
// Limit     the matrix products' multiply-adds
#include "common/siren_cpu_backward.h"
#include "siren_field/siren_field_cpu.h"

namespace cips3d::CIPS3D_SIMD_NS {
namespace {

struct TilePoints {
  int64_t image, first, rows;  // first: of all B * N points
};

TilePoints points_of(const SirenFieldCpuCall& call, int64_t tile) {
  const int64_t image = tile / call.tiles_per_image(), begin = tile % call.tiles_per_image() * kSirenTileRows;
  return {image, image * call.points + begin, min(kSirenTileRows, call.points - begin)};
}

template <class S>
void load_points(const SirenFieldCpuCall& call, const TilePoints& points, SirenTile<Operand<S>>& tile) {
  const S* position = static_cast<const S*>(call.positions) + points.first * kSirenCoordinates;
  for (int64_t r = 0; r < points.rows; ++r, position += kSirenCoordinates)
    tile.set_point(r, load_scalar(position), load_scalar(position + 1), load_scalar(position + 2));
  if (!call.directions) return;
  for (int64_t r = 0; r < points.rows; ++r) {
    const int64_t ray = (points.first + r) / call.points_per_direction;
    const S* direction = static_cast<const S*>(call.directions) + ray * kSirenCoordinates;
    tile.set_direction(r, load_scalar(direction), load_scalar(direction + 1), load_scalar(direction + 2));
  }
}

template <class S>
void pack_weights(const SirenFieldCpuCall& call) {
  pack_siren<Operand<S>, S>(call.field);
}

template <class S>
void forward(const SirenFieldCpuCall& call, int64_t first_tile, int64_t last_tile) {
  SirenTile<Operand<S>> tile(call.field, false);
  const int64_t channels = call.field.layout.net.feature.outputs;
  for (int64_t t = first_tile, image = -1; t < last_tile; ++t) {
    const TilePoints points = points_of(call, t);
    if (points.image != image) tile.template enter_image<S>(points.image);
    image = points.image;
    load_points<S>(call, points, tile);
    tile.forward(points.rows);
    tile.density(points.rows, static_cast<S*>(call.density) + points.first);
    if (channels > 0) tile.features(points.rows, static_cast<S*>(call.features) + points.first * channels);
  }
}

template <class S>
void backward(const SirenFieldCpuCall& call, int64_t worker, int64_t first_tile, int64_t last_tile) {
  using T = Compute<S>;
  SirenBackward<Operand<S>> field(call.field, call.gradients, worker);
  const int64_t channels = call.field.layout.net.feature.outputs;
  const auto from = [](const void* p, int64_t at) { return p ? static_cast<const S*>(p) + at : nullptr; };
  int64_t image = -1;
  for (int64_t t = first_tile; t < last_tile; ++t) {
    const TilePoints points = points_of(call, t);
    if (points.image != image) {
      if (image >= 0) field.leave_image();
      field.template enter_image<S>(points.image);
      image = points.image;
    }
    load_points<S>(call, points, field.tile());
    field.tile().forward(points.rows);
    field.backward(points.rows, from(call.grad_density, points.first),
                   from(call.grad_features, points.first * channels));
    for (int64_t i = 0; i < points.rows * kSirenCoordinates; ++i) {
      const int64_t at = points.first * kSirenCoordinates + i;
      if (call.grad_points) store_scalar(static_cast<S*>(call.grad_points) + at, field.grad_points()[i]);
      if (call.direction_parts) static_cast<T*>(call.direction_parts)[at] = field.grad_directions()[i];
    }
  }
  if (image >= 0) field.leave_image();
}

template <class S>
void reduce_parameters(const SirenFieldCpuCall& call) {
  reduce_siren_parameters<S>(call.field, call.gradients);
}

template <class S>
void reduce_films(const SirenFieldCpuCall& call) {
  reduce_siren_films<S>(call.field, call.gradients);
}

template <class S>
void reduce_directions(const SirenFieldCpuCall& call) {
  using T = Compute<S>;
  const T* parts = static_cast<const T*>(call.direction_parts);
  for (int64_t ray = 0; ray < call.batch * call.rays; ++ray)
    for (int64_t j = 0; j < kSirenCoordinates; ++j) {
      T total = 0;
      for (int64_t n = ray * call.points_per_direction; n < (ray + 1) * call.points_per_direction; ++n)
        total += parts[n * kSirenCoordinates + j];
      store_scalar(static_cast<S*>(call.grad_directions) + ray * kSirenCoordinates + j, total);
    }
}

template <class S>
constexpr SirenFieldCpuKernels kernels_of() {
  return {pack_weights<S>, forward<S>, backward<S>, reduce_parameters<S>, reduce_films<S>, reduce_directions<S>};
}
constexpr SirenFieldCpuKernels kKernels[kCpuDtypes] = {kernels_of<double>(), kernels_of<float>(),
                                                       kernels_of<bfloat16>(), kernels_of<float16>()};

}  // namespace
}  // namespace cips3d::CIPS3D_SIMD_NS

namespace cips3d {
const SirenFieldCpuKernels* CIPS3D_LEVEL_NAME(siren_field_cpu_kernels)() { return CIPS3D_SIMD_NS::kKernels; }
}  // namespace cips3d
