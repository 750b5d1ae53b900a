// Between sample_volume's CPU glue and its kernels.
#pragma once
#include "common/grid_sample_cpu.h"

namespace cips3d {

// The kernels of one level, by CpuDtype.
const GridSampleCpuKernels* sample_volume_cpu_kernels_avx512();
const GridSampleCpuKernels* sample_volume_cpu_kernels_avx2();
const GridSampleCpuKernels* sample_volume_cpu_kernels_portable();

}  // namespace cips3d
