// A block of rays in one thread's working memory: what render_rays' forward and backward share on the CPU.
//
// Everything of a sample lives here and in the tile of the field (common/siren_cpu_tile.h), in the computing type T;
// the kernels along rays of common/ (volume_render_cpu_rays.h, ...) run on these arrays as they do on tensors.
#pragma once
#include "common/merge_samples_cpu_rays.h"
#include "common/sample_pdf_cpu_rays.h"
#include "common/siren_cpu_tile.h"
#include "common/volume_render_cpu_rays.h"
#include "render_rays/render_rays_cpu.h"

namespace cips3d::CIPS3D_SIMD_NS {
namespace {

// A thread's numbers, up to a whole number of vectors: read_line and store_line go that far.
template <class T>
class Line : public Scratch<T> {
 public:
  explicit Line(int64_t count) : Scratch<T>(round_up(count, kLanes<T>)) {}
};

template <class S>
CIPS3D_INLINE void store_line(const Compute<S>* from, int64_t count, S* to) {
  for (int64_t i = 0; i < count; i += kLanes<Compute<S>>) store_first(to + i, count - i, load(from + i));
}

// `count` elements of an optional array from element `at` on, in T; null if it is absent.
template <class S, class T = Compute<S>>
CIPS3D_INLINE const T* read_optional(const void* array, int64_t at, int64_t count, T* to) {
  if (!array) return nullptr;
  read_line<S, T>(static_cast<const S*>(array) + at, count, to);
  return to;
}

template <class S>
class RaySamples {
 public:
  using T = Compute<S>;

  explicit RaySamples(const RenderRaysCpuCall& call)
      : call_(call),
        sizes_(call.sizes),
        origins_(call.rays_per_block * kSirenCoordinates),
        directions_(call.rays_per_block * kSirenCoordinates),
        line_(call.rays_per_block * call.sizes.coarse),
        coarse_(call.rays_per_block * call.sizes.coarse),
        fine_(call.rays_per_block * call.sizes.fine),
        depths_(call.rays_per_block * call.sizes.samples()),
        order_(call.rays_per_block * call.sizes.samples()) {}

  // Loads the rays of a block and their coarse depths; returns whether they are the first ones of another image.
  bool enter(int64_t block) {
    const int64_t image = block / call_.blocks_per_image();
    const bool other_image = image != image_;
    image_ = image;
    const int64_t begin = block % call_.blocks_per_image() * call_.rays_per_block;
    first_ = image_ * sizes_.rays + begin;
    rays_ = min(call_.rays_per_block, sizes_.rays - begin);
    const int64_t at = first_ * kSirenCoordinates, count = rays_ * kSirenCoordinates;
    read_line<S, T>(static_cast<const S*>(call_.origins) + at, count, origins_);
    read_line<S, T>(static_cast<const S*>(call_.directions) + at, count, directions_);
    read_line<S, T>(static_cast<const S*>(call_.jitter) + first_ * sizes_.coarse, rays_ * sizes_.coarse, line_);
    const T near = T(call_.options.near), far = T(call_.options.far);
    for (int64_t i = 0; i < sizes_.coarse; ++i)
      for (int64_t ray = 0; ray < rays_; ++ray) {
        const int64_t sample = ray * sizes_.coarse + i;
        coarse_[sample] = stratified_depth(near, far, i, sizes_.coarse, line_[sample]);
      }
    return other_image;
  }

  int64_t image() const { return image_; }
  int64_t first() const { return first_; }
  int64_t rays() const { return rays_; }
  const T* coarse() const { return coarse_; }
  T* fine() { return fine_; }

  // All depths of the rays in increasing order, [rays,M]; with fine samples order() says where each comes from, fine
  // ones first.
  const T* sorted_depths() {
    if (sizes_.fine == 0) return coarse_;
    const MergeSamplesTask task{fine_, coarse_, depths_, order_, {rays_, sizes_.fine, sizes_.coarse, 0}};
    sort_samples<T>(task, 0, rays_);
    return depths_;
  }
  const int64_t* order() const { return order_; }

  // Puts samples [first, first + rows) of the block's rays, `per_ray` at depths z, into the rows of a tile.
  template <class E>
  void set_points(SirenTile<E>& tile, const T* z, int64_t per_ray, int64_t first, int64_t rows) const {
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t ray = (first + r) / per_ray * kSirenCoordinates;
      const T *o = origins_ + ray, *d = directions_ + ray, depth = z[first + r];
      tile.set_point(r, o[0] + depth * d[0], o[1] + depth * d[1], o[2] + depth * d[2]);
      if (call_.field.layout.net.view_directions) tile.set_direction(r, d[0], d[1], d[2]);
    }
  }

  // Density [rays,per_ray] and features [rays,per_ray,C] at depths z, tile by tile.
  template <class E>
  void evaluate(SirenTile<E>& tile, const T* z, int64_t per_ray, T* density, T* features) const {
    const int64_t samples = rays_ * per_ray, channels = call_.channels();
    for (int64_t first = 0; first < samples; first += kSirenTileRows) {
      const int64_t rows = min(kSirenTileRows, samples - first);
      set_points(tile, z, per_ray, first, rows);
      tile.forward(rows);
      tile.density(rows, density + first);
      if (channels > 0) tile.features(rows, features + first * channels);
    }
  }

  // The integration of samples in working memory.
  VolumeRenderInputs integrand(const T* density, const T* features, const T* z, const T* noise, bool final) const {
    const int64_t samples = final ? sizes_.samples() : sizes_.coarse, channels = final ? call_.channels() : 0;
    return {density,
            features,
            z,
            noise,
            nullptr,
            nullptr,
            integration_options(call_.options, final),
            {rays_, samples, channels, samples, channels}};
  }

 private:
  const RenderRaysCpuCall& call_;
  const RenderRaysSizes& sizes_;
  Line<T> origins_, directions_, line_, coarse_, fine_, depths_;
  Scratch<int64_t> order_;
  int64_t image_ = -1, first_ = 0, rays_ = 0;
};

}  // namespace
}  // namespace cips3d::CIPS3D_SIMD_NS
