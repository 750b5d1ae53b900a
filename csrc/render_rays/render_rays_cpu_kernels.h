// render_rays' CPU kernels: compiled once per SIMD level (simd.h) for each dtype.
//
// Computes  render_rays.h: coarse depths -> field -> weights -> fine depths -> field -> merge -> integration; backward:
//           the field at the merged depths, the integration's gradients, the field's
// Axes      B images, R rays, S + F = M samples; a block is as many rays of one image as fill a tile of the field
// Launch    forward: any thread takes any blocks; backward: a worker takes one contiguous share of them
// Traffic   what a ray has in the op's arguments, once; samples stay in working memory, a few hundred KB a thread
// Numerics  T = float (double for double) along rays, rounded once; the field's are those of siren_cpu_tile.h. The
//           forward's products take no bfloat16: a density's rounding moves fine samples, and images by 3 %
// Limit     the field's multiply-adds: M points a ray forward, and three times that backward
#include "common/siren_cpu_backward.h"
#include "render_rays/render_rays_cpu_block.h"

namespace cips3d::CIPS3D_SIMD_NS {
namespace {

template <class S>
class ForwardRays {
 public:
  using T = Compute<S>;

  explicit ForwardRays(const RenderRaysCpuCall& call)
      : call_(call),
        sizes_(call.sizes),
        rays_(call),
        tile_(call.field, false),
        raw_density_(samples()),
        raw_features_(samples() * call.channels()),
        density_(samples()),
        features_(samples() * call.channels()),
        feature_(call.rays_per_block * call.channels()),
        weights_(samples()),
        noise_(samples()),
        bins_(samples()),
        per_ray_(3 * call.rays_per_block) {}

  void render(int64_t number) {
    if (rays_.enter(number)) tile_.template enter_image<S>(rays_.image());
    // In working memory the fine samples of all rays come first.
    const int64_t fine = rays_.rays() * sizes_.fine;
    T *coarse_density = raw_density_ + fine, *coarse_features = raw_features_ + fine * call_.channels();
    rays_.evaluate(tile_, rays_.coarse(), sizes_.coarse, coarse_density, coarse_features);
    if (sizes_.fine == 0) return integrate(coarse_density, coarse_features, rays_.coarse());
    sample_fine(coarse_density);
    rays_.evaluate(tile_, rays_.fine(), sizes_.fine, raw_density_, raw_features_);
    const T* z = rays_.sorted_depths();
    gather(fine);
    integrate(density_, features_, z);
  }

 private:
  int64_t samples() const { return call_.rays_per_block * call_.sizes.samples(); }

  // Fine depths where the weights of the coarse samples are; intervals reach from middle to middle.
  void sample_fine(const T* density) {
    const int64_t rays = rays_.rays(), count = sizes_.coarse, at = rays_.first() * count;
    const T* noise = read_optional<S>(call_.noise_coarse, at, rays * count, static_cast<T*>(noise_));
    T* const unused = per_ray_;
    const VolumeRenderForwardTask weighing{rays_.integrand(density, nullptr, rays_.coarse(), noise, false),
                                           feature_,
                                           unused,
                                           weights_,
                                           unused + call_.rays_per_block,
                                           unused + 2 * call_.rays_per_block};
    volume_render_forward<T>(weighing, 0, rays);
    for (int64_t ray = 0; ray < rays; ++ray) {  // in place: each ray's inner weights move to the front
      const T *z = rays_.coarse() + ray * count, *w = weights_ + ray * count;
      for (int64_t i = 0; i + 1 < count; ++i) bins_[ray * (count - 1) + i] = T(0.5) * (z[i + 1] + z[i]);
      for (int64_t i = 1; i + 1 < count; ++i) weights_[ray * (count - 2) + i - 1] = w[i] + T(kWeightFloor);
    }
    const int64_t first = rays_.first() * sizes_.fine;
    read_line<S, T>(static_cast<const S*>(call_.u) + first, rays * sizes_.fine, noise_);
    const SamplePdfTask sampling{bins_,        weights_,         noise_,
                                 rays_.fine(), {kPdfEps, false}, {rays, count - 1, count - 2, sizes_.fine}};
    sample_depths<T>(sampling, 0, rays);
    for (int64_t i = 0; i < rays * sizes_.fine; ++i) static_cast<T*>(call_.fine_depths)[first + i] = rays_.fine()[i];
  }

  // Densities and features in the order of the depths; `fine` is the first coarse sample in working memory.
  void gather(int64_t fine) {
    const int64_t channels = call_.channels();
    for (int64_t ray = 0; ray < rays_.rays(); ++ray)
      for (int64_t i = 0; i < sizes_.samples(); ++i) {
        const int64_t to = ray * sizes_.samples() + i, from = rays_.order()[to];
        const int64_t row =
            from < sizes_.fine ? ray * sizes_.fine + from : fine + ray * sizes_.coarse + from - sizes_.fine;
        density_[to] = raw_density_[row];
        __builtin_memcpy(features_ + to * channels, raw_features_ + row * channels,
                         static_cast<size_t>(channels) * sizeof(T));
      }
  }

  void integrate(const T* density, const T* features, const T* z) {
    const int64_t rays = rays_.rays(), first = rays_.first(), count = sizes_.samples(), channels = call_.channels();
    const T* noise = read_optional<S>(call_.noise, first * count, rays * count, static_cast<T*>(noise_));
    T* const depth = per_ray_;
    const VolumeRenderForwardTask task{rays_.integrand(density, features, z, noise, true),
                                       feature_,
                                       depth,
                                       weights_,
                                       depth + call_.rays_per_block,
                                       depth + 2 * call_.rays_per_block};
    volume_render_forward<T>(task, 0, rays);
    store_line(feature_, rays * channels, static_cast<S*>(call_.feature) + first * channels);
    store_line(depth, rays, static_cast<S*>(call_.depth) + first);
    store_line(weights_, rays * count, static_cast<S*>(call_.weights) + first * count);
  }

  const RenderRaysCpuCall& call_;
  const RenderRaysSizes& sizes_;
  RaySamples<S> rays_;
  SirenTile<T> tile_;
  Line<T> raw_density_, raw_features_;  // as evaluated: fine, then coarse
  Line<T> density_, features_;          // by depth
  Line<T> feature_, weights_, noise_, bins_;
  Line<T> per_ray_;  // three numbers that the integration returns for each ray
};

template <class S>
class BackwardRays {
 public:
  using T = Compute<S>;

  BackwardRays(const RenderRaysCpuCall& call, int64_t worker)
      : call_(call),
        sizes_(call.sizes),
        rays_(call),
        field_(call.field, call.gradients, worker),
        density_(samples()),
        features_(samples() * call.channels()),
        noise_(samples()),
        grad_feature_(call.rays_per_block * call.channels()),
        grad_depth_(call.rays_per_block),
        grad_weights_(samples()),
        grad_density_(samples()),
        grad_features_(samples() * call.channels()),
        grad_origins_(call.rays_per_block * kSirenCoordinates),
        grad_directions_(call.rays_per_block * kSirenCoordinates) {}

  void differentiate(int64_t number) {
    const bool entered = rays_.image() >= 0;
    if (rays_.enter(number)) {
      if (entered) field_.leave_image();
      field_.template enter_image<S>(rays_.image());
    }
    const int64_t fine = rays_.rays() * sizes_.fine;
    const T* fine_depths = static_cast<const T*>(call_.fine_depths) + rays_.first() * sizes_.fine;
    for (int64_t i = 0; i < fine; ++i) rays_.fine()[i] = fine_depths[i];
    const T* z = rays_.sorted_depths();
    rays_.evaluate(field_.tile(), z, sizes_.samples(), density_, features_);
    differentiate_integral(z);
    differentiate_field(z);
  }

  void finish() {
    if (rays_.image() >= 0) field_.leave_image();
  }

 private:
  int64_t samples() const { return call_.rays_per_block * call_.sizes.samples(); }

  // Gradients of the samples' densities and features.
  void differentiate_integral(const T* z) {
    const int64_t rays = rays_.rays(), first = rays_.first(), count = sizes_.samples(), channels = call_.channels();
    const T* noise = read_optional<S>(call_.noise, first * count, rays * count, static_cast<T*>(noise_));
    const VolumeRenderBackwardTask task{
        rays_.integrand(density_, features_, z, noise, true),
        read_optional<S>(call_.grad_feature, first * channels, rays * channels, static_cast<T*>(grad_feature_)),
        read_optional<S>(call_.grad_depth, first, rays, static_cast<T*>(grad_depth_)),
        read_optional<S>(call_.grad_weights, first * count, rays * count, static_cast<T*>(grad_weights_)),
        nullptr,
        nullptr,
        grad_density_,
        call_.grad_feature ? static_cast<T*>(grad_features_) : nullptr,
        nullptr,
        nullptr};
    volume_render_backward<T>(task, 0, rays);
  }

  // From there through the field. A block of one tile is still in it.
  void differentiate_field(const T* z) {
    const int64_t per_ray = sizes_.samples(), samples = rays_.rays() * per_ray, channels = call_.channels();
    fill_zero<T>(grad_origins_, rays_.rays() * kSirenCoordinates);
    fill_zero<T>(grad_directions_, rays_.rays() * kSirenCoordinates);
    for (int64_t first = 0; first < samples; first += kSirenTileRows) {
      const int64_t rows = min(kSirenTileRows, samples - first);
      if (samples > kSirenTileRows) {
        rays_.set_points(field_.tile(), z, per_ray, first, rows);
        field_.tile().forward(rows);
      }
      const T* grad_features = call_.grad_feature ? grad_features_ + first * channels : nullptr;
      field_.backward(rows, static_cast<const T*>(grad_density_) + first, grad_features);
      if (call_.gradients.wants_points) add_ray_gradients(z, first, rows);
    }
    const int64_t at = rays_.first() * kSirenCoordinates, count = rays_.rays() * kSirenCoordinates;
    if (call_.grad_origins) store_line(grad_origins_, count, static_cast<S*>(call_.grad_origins) + at);
    if (call_.grad_directions) store_line(grad_directions_, count, static_cast<S*>(call_.grad_directions) + at);
  }

  // point = origin + z direction, and the field may see the direction itself.
  void add_ray_gradients(const T* z, int64_t first, int64_t rows) {
    const bool views = call_.field.layout.net.view_directions;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < kSirenCoordinates; ++i) {
        const int64_t at = (first + r) / sizes_.samples() * kSirenCoordinates + i;
        const T grad = field_.grad_points()[r * kSirenCoordinates + i];
        grad_origins_[at] += grad;
        grad_directions_[at] += z[first + r] * grad;
        if (views) grad_directions_[at] += field_.grad_directions()[r * kSirenCoordinates + i];
      }
  }

  const RenderRaysCpuCall& call_;
  const RenderRaysSizes& sizes_;
  RaySamples<S> rays_;
  SirenBackward<Operand<S>> field_;
  Line<T> density_, features_, noise_;  // by depth
  Line<T> grad_feature_, grad_depth_, grad_weights_;
  Line<T> grad_density_, grad_features_, grad_origins_, grad_directions_;
};

template <class S>
void pack_weights(const RenderRaysCpuCall& call) {
  if (call.field.for_gradients) return pack_siren<Operand<S>, S>(call.field);
  pack_siren<Compute<S>, S>(call.field);
}

template <class S>
void forward(const RenderRaysCpuCall& call, int64_t first_block, int64_t last_block) {
  ForwardRays<S> rays(call);
  for (int64_t block = first_block; block < last_block; ++block) rays.render(block);
}

template <class S>
void backward(const RenderRaysCpuCall& call, int64_t worker, int64_t first_block, int64_t last_block) {
  BackwardRays<S> rays(call, worker);
  for (int64_t block = first_block; block < last_block; ++block) rays.differentiate(block);
  rays.finish();
}

template <class S>
void reduce_parameters(const RenderRaysCpuCall& call) {
  reduce_siren_parameters<S>(call.field, call.gradients);
}

template <class S>
void reduce_films(const RenderRaysCpuCall& call) {
  reduce_siren_films<S>(call.field, call.gradients);
}

template <class S>
constexpr RenderRaysCpuKernels kernels_of() {
  return {pack_weights<S>, forward<S>, backward<S>, reduce_parameters<S>, reduce_films<S>};
}
constexpr RenderRaysCpuKernels kKernels[kCpuDtypes] = {kernels_of<double>(), kernels_of<float>(),
                                                       kernels_of<bfloat16>(), kernels_of<float16>()};

}  // namespace
}  // namespace cips3d::CIPS3D_SIMD_NS

namespace cips3d {
const RenderRaysCpuKernels* CIPS3D_LEVEL_NAME(render_rays_cpu_kernels)() { return CIPS3D_SIMD_NS::kKernels; }
}  // namespace cips3d
