// Ops of the emulator itself, in namespace cips3d_emulated: the schedule, and the kernels of emulator_cases.cu. The
// emulated ops of the project register next to them; tests/csrc/emulator.py defines their schemas from cips3d_ext's
// own.
#include "common/torch_cuda.h"
#include "emulator/emulator_cases.h"

namespace cips3d {

static void set_schedule(std::string order, int64_t seed) {
  STD_TORCH_CHECK(order == "forward" || order == "reverse" || order == "skew",
                  "set_schedule: order must be forward, reverse or skew, got ", order);
  simt::set_schedule(order == "forward"   ? simt::Order::kForward
                     : order == "reverse" ? simt::Order::kReverse
                                          : simt::Order::kSkew,
                     static_cast<unsigned>(seed));
}

static const float* floats(const Tensor& t) { return static_cast<const float*>(t.const_data_ptr()); }
static float* floats_out(Tensor& t) { return static_cast<float*>(t.mutable_data_ptr()); }

static Tensor rotate(Tensor in, int64_t fault) {
  constexpr int64_t kBlock = 64;
  Tensor out = new_output(in, {in.size(0)});
  check_launch("rotate", launch_rotate(static_cast<RotateFault>(fault), floats(in), floats_out(out),
                                       in.size(0) / kBlock, nullptr));
  return out;
}

static Tensor mma_product(Tensor a, Tensor b, int64_t kind, bool wait_for_copies) {
  Tensor d = new_output(a, {a.size(0), b.size(0)});
  check_launch("mma_product", launch_mma_product(static_cast<MmaKind>(kind), wait_for_copies, floats(a), floats(b),
                                                 floats_out(d), nullptr));
  return d;
}

static std::tuple<Tensor, Tensor> warp_sums(Tensor in) {
  Tensor sums = new_output(in, {in.size(0)}), prefix = new_output(in, {in.size(0), in.size(1)});
  check_launch("warp_sums", launch_warp_sums(floats(in), floats_out(sums), floats_out(prefix), in.size(0), nullptr));
  return {sums, prefix};
}

}  // namespace cips3d

STABLE_TORCH_LIBRARY(cips3d_emulated, m) {
  m.def("set_schedule(str order, int seed) -> ()");
  m.def("rotate(Tensor input, int fault) -> Tensor");
  m.def("mma_product(Tensor a, Tensor b, int kind, bool wait_for_copies) -> Tensor");
  m.def("warp_sums(Tensor input) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(cips3d_emulated, CompositeExplicitAutograd, m) {
  m.impl("set_schedule", TORCH_BOX(&cips3d::set_schedule));
}

STABLE_TORCH_LIBRARY_IMPL(cips3d_emulated, CPU, m) {
  m.impl("rotate", TORCH_BOX(&cips3d::rotate));
  m.impl("mma_product", TORCH_BOX(&cips3d::mma_product));
  m.impl("warp_sums", TORCH_BOX(&cips3d::warp_sums));
}
