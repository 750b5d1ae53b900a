#include "common/cpu_level.h"

#include <atomic>

#include "common/stable.h"

namespace cips3d {
namespace {

constexpr const char* kLevelNames[] = {"portable", "avx2", "avx512", "avx512bf16"};  // by CpuLevel

// Every feature that a level's compiler flags (CMakeLists.txt) let the compiler use.
CpuLevel best_level() {
#if defined(CIPS3D_HAVE_AVX512) && defined(CIPS3D_HAVE_AVX2)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512 && __builtin_cpu_supports("avx512bf16")) return CpuLevel::kAvx512Bf16;
  if (avx512) return CpuLevel::kAvx512;
  if (avx2) return CpuLevel::kAvx2;
#endif
  return CpuLevel::kPortable;
}

std::atomic<CpuLevel>& chosen_level() {
  static std::atomic<CpuLevel> level{best_level()};
  return level;
}

std::string level_name() { return kLevelNames[static_cast<int>(cpu_level())]; }

// Test-only: runs the kernels of a lower level ("best" goes back), and returns the name of the level left.
std::string set_level(StringArgument level) {
  const std::string name = level.take(), before = level_name();
  if (name == "best") {
    chosen_level() = best_level();
    return before;
  }
  for (int index = 0; index <= static_cast<int>(best_level()); ++index) {
    if (name != kLevelNames[index]) continue;
    chosen_level() = static_cast<CpuLevel>(index);
    return before;
  }
  STD_TORCH_CHECK(false, "set_cpu_level: wanted 'best', 'portable' or a level up to this machine's best, '",
                  kLevelNames[static_cast<int>(best_level())], "', got '", name, "'");
}

}  // namespace

CpuLevel cpu_level() { return chosen_level().load(std::memory_order_relaxed); }

}  // namespace cips3d

// These two take no tensor, so they are defined here and not with an op's Python file.
STABLE_TORCH_LIBRARY_FRAGMENT(cips3d_ext, m) {
  m.def("cpu_level() -> str");
  m.def("set_cpu_level(str name) -> str");
}

STABLE_TORCH_LIBRARY_IMPL(cips3d_ext, CompositeExplicitAutograd, m) {
  m.impl("cpu_level", TORCH_BOX(&cips3d::level_name));
  m.impl("set_cpu_level", TORCH_BOX(&cips3d::set_level));
}
