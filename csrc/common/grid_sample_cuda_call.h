// The CUDA glue of sample_planes and sample_volume: outputs, working memory, the sort of points by cell, launches.
#pragma once
#include "common/grid_sample.h"
#include "common/grid_sample_cuda.h"
#include "common/torch_cuda.h"

namespace cips3d {

// (sorted, where each came from) of a vector, equal ones in their order.
inline std::tuple<Tensor, Tensor> stable_sort(const Tensor& keys) {
  const std::optional<bool> stable = true;
  std::array<StableIValue, 4> stack{torch::stable::detail::from(keys), torch::stable::detail::from(stable),
                                    torch::stable::detail::from(int64_t{0}), torch::stable::detail::from(false)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::sort", "stable", stack.data(), TORCH_ABI_VERSION));
  return {torch::stable::detail::to<Tensor>(stack[0]), torch::stable::detail::to<Tensor>(stack[1])};
}

// One call on its way: its plain form, and the tensors that this points to.
class GridSampleCuda {
 public:
  GridSampleCuda(const char* op, const GridSampleCall& call, const GridSampleCudaLaunchers& launchers)
      : op_(op), call_(call), launchers_(launchers), dtype_(cuda_dtype(call.grids)), scope_(call.grids) {
    plain_.sizes = call.sizes;
    plain_.options = call.options;
    plain_.grids = data(call.grids);
    plain_.points = data(call.points);
    plain_.row = ceil_div(call.sizes.channels, row_vector(dtype_)) * row_vector(dtype_);
  }

  Tensor sample() {
    Tensor output = new_output(call_.grids, call_.output_shape());
    if (output.numel() == 0) return output;
    plain_.output = output.mutable_data_ptr();
    const Tensor rows = staged_rows();
    launch(launchers_.sample);
    return output;
  }

  GridSampleGradients gradients(const Tensor& grad, int64_t grad_mask) {
    plain_.grad = data(grad);
    const NewGradients make(call_.grids, grad_mask);
    Tensor of_grids = make.make(kGridGradGrids, call_.grids, &plain_.grad_grids);
    Tensor of_points = no_gradient(call_.points);
    if (grad_mask >> kGridGradPoints & 1) {
      of_points = new_output(call_.points, {call_.sizes.batch, call_.sizes.points, 3});
      plain_.grad_points = of_points.mutable_data_ptr();
    }
    if (grad.numel() == 0) {
      torch::stable::zero_(of_grids);
      torch::stable::zero_(of_points);
      return {of_grids, of_points};
    }
    if (plain_.grad_points) {
      const Tensor rows = staged_rows();
      launch(launchers_.point_gradients);
    }
    if (plain_.grad_grids) gradients_of_grids();
    return {of_grids, of_points};
  }

 private:
  // [B*P, texels, row], the plain call's `rows` as long as it lives.
  Tensor staged_rows() {
    const Tensor rows = new_output(call_.grids, {plain_.grids_of_all(), call_.sizes.texels(), plain_.row});
    plain_.rows = rows.mutable_data_ptr();
    launch(launchers_.stage);
    return rows;
  }

  void gradients_of_grids() {
    const int64_t grids = plain_.grids_of_all();
    const Tensor keys = new_output(call_.grids, {grids * call_.sizes.points}, ScalarType::Long);
    plain_.keys = static_cast<int64_t*>(keys.mutable_data_ptr());
    launch(launchers_.find_cells);
    const auto [sorted, order] = stable_sort(keys);
    plain_.sorted_keys = static_cast<const int64_t*>(sorted.const_data_ptr());
    plain_.order = static_cast<const int64_t*>(order.const_data_ptr());
    const Tensor starts = new_output(call_.grids, {grids * plain_.cells(launchers_.axes) + 1}, ScalarType::Long);
    plain_.cell_starts = static_cast<int64_t*>(starts.mutable_data_ptr());
    const Workspace sums(call_.grids, {grids, call_.sizes.texels(), plain_.row}, &plain_.sums);
    launch(launchers_.grid_gradients);
  }

  template <class Launcher>
  void launch(Launcher launcher) {
    check_launch(op_, launcher(dtype_, plain_, scope_.stream()));
  }

  const char* op_;
  const GridSampleCall& call_;
  const GridSampleCudaLaunchers& launchers_;
  CudaDtype dtype_;
  LaunchScope scope_;
  GridSampleCudaCall plain_{};
};

}  // namespace cips3d
