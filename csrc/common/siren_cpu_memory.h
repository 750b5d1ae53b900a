// Between torch's tensors and siren_cpu.h: the working memory of a field, for the CPU glue of the ops that take one.
#pragma once
#include "common/cpu_call.h"
#include "common/siren_cpu.h"

namespace cips3d {

class SirenCpuMemory {
 public:
  SirenCpuMemory(const SirenNetwork& network, const Tensor& parameters, const std::optional<Tensor>& gamma,
                 const std::optional<Tensor>& beta, bool for_gradients)
      : like_(parameters), layout_(make_siren_cpu_layout(network)) {
    packed_ = working_memory(like_, layout_.packed);
    field_ = {layout_, data(parameters), data(gamma), data(beta), data(packed_), for_gradients};
  }

  const SirenCpuField& field() const { return field_; }

  // Null gradients are not wanted.
  SirenCpuGradients gradients(int64_t workers, int64_t batch, int64_t tiles_per_image, bool wants_points,
                              const std::optional<Tensor>& grad_parameters, const std::optional<Tensor>& grad_gamma,
                              const std::optional<Tensor>& grad_beta) {
    const bool wants_weights = grad_parameters || grad_gamma;
    accumulators_ = working_memory(like_, wants_weights ? workers * 2 * layout_.accumulator : 0);
    film_sums_ = working_memory(like_, (workers + batch) * 2 * layout_.films);
    return {workers,          batch,
            tiles_per_image,  wants_weights,
            wants_points,     data(accumulators_),
            data(film_sums_), data(grad_parameters),
            data(grad_gamma), data(grad_beta)};
  }

 private:
  Tensor like_;
  SirenCpuLayout layout_;
  Tensor packed_, accumulators_, film_sums_;
  SirenCpuField field_;
};

}  // namespace cips3d
