// Which build of the CPU kernels runs: AVX-512, AVX2, or the portable one (SSE2, NEON). Chosen once, by what the CPU
// has. Ops whose products gain from AVX-512's bfloat16 dot products (CMakeLists.txt lists them) have a fourth build.
#pragma once
#include <cstdint>

namespace cips3d {

enum class CpuLevel : int { kPortable, kAvx2, kAvx512, kAvx512Bf16 };

// The best level this build contains and this CPU can run, or the one a test asked for (op `set_cpu_level`).
CpuLevel cpu_level();

// The dtypes every CPU kernel table is indexed by.
enum class CpuDtype : int { kFloat64, kFloat32, kBFloat16, kFloat16 };
inline constexpr int kCpuDtypes = 4;

}  // namespace cips3d

// CIPS3D_CPU_KERNELS(film_sine_cpu_kernels) calls film_sine_cpu_kernels_avx512(), ..._avx2() or ..._portable();
// CIPS3D_CPU_KERNELS_WITH_BF16 has ..._avx512bf16() to choose from too.
#if defined(CIPS3D_HAVE_AVX512) && defined(CIPS3D_HAVE_AVX2)
#define CIPS3D_CPU_KERNELS(table)                                          \
  (::cips3d::cpu_level() >= ::cips3d::CpuLevel::kAvx512 ? table##_avx512() \
   : ::cips3d::cpu_level() == ::cips3d::CpuLevel::kAvx2 ? table##_avx2()   \
                                                        : table##_portable())
#define CIPS3D_CPU_KERNELS_WITH_BF16(table) \
  (::cips3d::cpu_level() == ::cips3d::CpuLevel::kAvx512Bf16 ? table##_avx512bf16() : CIPS3D_CPU_KERNELS(table))
#else
#define CIPS3D_CPU_KERNELS(table) table##_portable()
#define CIPS3D_CPU_KERNELS_WITH_BF16(table) table##_portable()
#endif
