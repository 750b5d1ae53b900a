"""CPU kernels run at every SIMD level this machine has, each compared with the references in float64."""

import pytest
import torch

import cips3d_ext  # noqa: F401  (loads the libraries and defines the ops)
from cips3d_ext._native import native

LEVELS = ("avx512", "avx2", "portable")


def run_at_level(level):
    """Runs a test with the kernels of one level, from a fixture."""
    if "cpu" not in native.loaded:
        pytest.skip("the CPU library is not built")
    ops = torch.ops.cips3d_ext
    try:
        ops.set_cpu_level(level)
    except RuntimeError:
        pytest.skip(f"this CPU or build has no {level}")
    yield level
    ops.set_cpu_level("best")


@pytest.fixture(params=LEVELS)
def cpu_level(request):
    yield from run_at_level(request.param)


@pytest.fixture(params=("avx512bf16", *LEVELS))
def cpu_level_or_bf16(request):
    """The same for ops that have kernels with bfloat16 dot products."""
    yield from run_at_level(request.param)


@pytest.fixture
def one_and_two_threads():
    """Thread counts to compare; torch's own setting comes back afterwards."""
    before = torch.get_num_threads()
    yield (1, 2)
    torch.set_num_threads(before)
