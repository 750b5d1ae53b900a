"""The emulator of csrc/emulator: computes what CUDA would, and finds the mistakes it claims to find."""

import subprocess
import sys

import pytest
import torch

# RotateFault in csrc/emulator/emulator_cases.h
NONE, NO_BARRIER, DIVERGENT, ENDED, MISSING_LANE, TWO_PLACES, MISALIGNED, OVERRUN = range(8)
TF32, FLOAT16, BFLOAT16 = range(3)


def rotated(x: torch.Tensor) -> torch.Tensor:
    return x.view(-1, 64).roll(1, 1).reshape(-1)


def test_shared_memory_and_barrier(emulated):
    x = torch.arange(192.0)
    assert torch.equal(emulated.in_all_schedules(emulated.ops.rotate, x, NONE), rotated(x))


def test_missing_barrier_shows_in_every_schedule(emulated):
    x = torch.arange(192.0)
    for schedule in emulated.schedules:
        emulated.schedule(*schedule)
        assert not torch.equal(emulated.ops.rotate(x, NO_BARRIER), rotated(x)), schedule


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            DIVERGENT,
            r"divergent __syncthreads: thread .* waits at emulator_cases.cu:\d+, .* waits at ",
        ),
        (ENDED, r"divergent __syncthreads: .* thread \(3,0,0\) has ended"),
        (MISSING_LANE, r"deadlock in a warp collective at emulator_cases.cu:\d+"),
        (TWO_PLACES, r"lanes of one mask meet in two places, the other at emulator_cases.cu:\d+"),
        (MISALIGNED, r"misaligned access: 16 bytes .* at emulator_cases.cu:\d+"),
    ],
)
def test_mistakes_are_errors(emulated, fault, message):
    x = torch.arange(64.0)
    for schedule in emulated.schedules:
        emulated.schedule(*schedule)
        with pytest.raises(RuntimeError, match=message):
            emulated.ops.rotate(x, fault)
    assert torch.equal(emulated.ops.rotate(x, NONE), rotated(x))  # the emulator works on after an error


def test_launch_limits(emulated):
    with pytest.raises(RuntimeError, match="invalid grid"):
        emulated.ops.rotate(torch.empty(0), NONE)


@pytest.mark.parametrize(("kind", "dtype"), [(TF32, None), (FLOAT16, torch.float16), (BFLOAT16, torch.bfloat16)])
def test_mma_ldmatrix_and_async_copies(emulated, kind, dtype):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(n, 16, generator=generator) for n in (16, 8))
    d = emulated.in_all_schedules(emulated.ops.mma_product, a, b, kind, True)
    if dtype is None:  # to 10 fraction bits, ties away from zero
        a, b = (((t.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32) for t in (a, b))
    else:
        a, b = a.to(dtype), b.to(dtype)
    torch.testing.assert_close(d.double(), a.double() @ b.double().T, rtol=1e-6, atol=1e-6)


def test_copies_arrive_only_at_the_wait(emulated):
    a, b = torch.ones(16, 16), torch.ones(8, 16)
    assert emulated.ops.mma_product(a, b, TF32, False).isnan().all()


def test_warp_collectives(emulated):
    x = torch.arange(96.0).view(3, 32)
    sums, prefix = emulated.in_all_schedules(emulated.ops.warp_sums, x)
    assert torch.equal(sums, x.sum(1))
    assert torch.equal(prefix, x.cumsum(1))


def test_overrun_of_shared_memory_is_caught_by_the_sanitizer(emulated):
    if not emulated.sanitized:
        pytest.skip("needs the sanitized build: tests/csrc/run_sanitized.sh")
    library = next(path for path in torch.ops.loaded_libraries if "emulator" in path)
    rotate = f"torch.ops.cips3d_emulated.rotate(torch.ones(64), {OVERRUN})"
    code = f"import torch; torch.ops.load_library({library!r}); {rotate}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert "emulator_cases.cu" in done.stderr and ("out of bounds" in done.stderr or "overflow" in done.stderr)
