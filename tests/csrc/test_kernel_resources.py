"""Every CUDA kernel of the library as it was built: no spills, no more registers than kernel_registers.json allows."""

import pytest

from benchmarks import kernel_resources
from benchmarks.kernel_resources import Resources

ROOT = kernel_resources.ROOT
PTXAS = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN6cips3d17sample_pdf_kernelIdEEvPKT_' for 'sm_80'
ptxas info    : Function properties for _ZN6cips3d17sample_pdf_kernelIdEEvPKT_
    16 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 57 registers, used 1 barriers, 64 bytes smem, 640 bytes cmem[0]
ptxas info    : Compile time = 9.698 ms
ptxas info    : Compiling entry function '_ZN6cips3d10new_kernelIfEEvPKT_' for 'sm_90'
ptxas info    : Function properties for _ZN6cips3d10new_kernelIfEEvPKT_
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 0 barriers
"""
built = pytest.mark.skipif(not kernel_resources.reports(), reason="no CUDA library has been built here")


@built
def test_kernels_fit():
    found = [r for report in kernel_resources.reports() for r in kernel_resources.read(report)]
    assert not kernel_resources.problems(found)
    assert {r.kernel for r in found} == set(kernel_resources.LIMITS), "a limit without a kernel"


@built
def test_every_source_is_there():
    sources = {path.stem for path in ROOT.glob("csrc/*/*_cuda*.cu")}
    assert {path.name.split(".")[0] for path in kernel_resources.reports()} == sources


def test_what_ptxas_says_is_read(tmp_path):
    report = tmp_path / "x.resources"
    report.write_text(PTXAS)
    first, second = kernel_resources.read(report)
    assert first == Resources("void cips3d::sample_pdf_kernel<double>(double const*)", "80", 57, 20, 64)
    assert (second.kernel, second.shared, second.architecture) == ("new_kernel float", 0, "90")
    assert kernel_resources.problems([first, second]) == [
        "add 'new_kernel float' to kernel_registers.json",
        f"{first.instance} on sm_80 spills 20 bytes",
        f"{first.instance} on sm_80 takes 57 registers, more than 56",
    ]
    assert not kernel_resources.problems([first._replace(architecture="100")])
