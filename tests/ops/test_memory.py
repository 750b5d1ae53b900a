"""No call leaves memory behind: the heap has as many bytes in use after many calls as before them."""

import ctypes
import gc

import pytest
import torch

from cips3d_ext.testing import CASES

CALLS = 100
BYTES_PER_CALL = 12  # Python's own caches take a few bytes at times; the smallest thing that can be left takes 32


class HeapStatistics(ctypes.Structure):
    """struct mallinfo2 of glibc's malloc.h."""

    _fields_ = [(f"field{index}", ctypes.c_size_t) for index in range(7)] + [
        ("uordblks", ctypes.c_size_t),  # bytes in use
        ("fordblks", ctypes.c_size_t),
        ("keepcost", ctypes.c_size_t),
    ]


@pytest.fixture
def bytes_in_use():
    """How many bytes of the heap are in use, as a function."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        pytest.skip("the C library has no mallinfo2 (glibc 2.33 and newer have)")
    mallinfo2.restype = HeapStatistics
    return lambda: mallinfo2().uordblks


def growth(call, bytes_in_use) -> float:
    """Bytes that one call leaves, the least of some rounds: caches fill now and then, a leak grows in each round."""

    def one_round() -> float:
        gc.collect()
        before = bytes_in_use()
        for _ in range(CALLS):
            call()
        gc.collect()
        return (bytes_in_use() - before) / CALLS

    return min(one_round() for _ in range(3))


@pytest.mark.parametrize("op", sorted({case.op for case in CASES}))
def test_calls_leave_nothing(op, bytes_in_use):
    case = next(case for case in CASES if case.op == op)
    tensors = {n: t.requires_grad_(n in case.differentiable) for n, t in case.tensors(torch.float32, "cpu").items()}
    inputs = [tensors[name] for name in case.differentiable]

    def call() -> None:
        outputs = case.run(tensors, "fused")
        if inputs:
            torch.autograd.grad([o.sum() for o in outputs if o.requires_grad], inputs, allow_unused=True)

    assert growth(call, bytes_in_use) < BYTES_PER_CALL
