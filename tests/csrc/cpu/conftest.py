"""CPU kernels run at every SIMD level this machine has, each compared with the references in float64."""

import pytest
import torch

import cips3d_ext  # noqa: F401  (loads the libraries and defines the ops)
from cips3d_ext._native import native

LEVELS = ("avx512", "avx2", "portable")


@pytest.fixture(params=LEVELS)
def cpu_level(request):
    """Runs the test with the kernels of one level."""
    if "cpu" not in native.loaded:
        pytest.skip("the CPU library is not built")
    ops = torch.ops.cips3d_ext
    try:
        ops.set_cpu_level(request.param)
    except RuntimeError:
        pytest.skip(f"this CPU or build has no {request.param}")
    yield request.param
    ops.set_cpu_level("best")


@pytest.fixture
def one_and_two_threads():
    """Thread counts to compare; torch's own setting comes back afterwards."""
    before = torch.get_num_threads()
    yield (1, 2)
    torch.set_num_threads(before)
