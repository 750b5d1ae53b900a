"""Every op's sample calls through its CUDA kernels on the emulator: the public function, autograd and all, against the
reference in float64, in three schedules that must agree bit for bit."""

import pytest
import torch

from cips3d_ext.testing import CASES, assert_close

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# Kernels on the tensor cores alone; float64 goes to the parts: test_emulated_render_rays.py.
WITHOUT_FLOAT64 = ("render_rays",)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.op}-{case.id}")


def results(case, tensors, impl):
    """Outputs, and gradients of all differentiable inputs for fixed cotangents."""
    tensors = {n: t.detach().requires_grad_(n in case.differentiable) for n, t in tensors.items()}
    outputs = case.run(tensors, impl)
    generator = torch.Generator().manual_seed(1)
    cotangents = [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o) for o in outputs]
    used = [(o, c) for o, c in zip(outputs, cotangents, strict=True) if o.requires_grad and o.isfinite().all()]
    inputs = [tensors[name] for name in case.differentiable]
    grads = []
    if used and inputs:
        grads = torch.autograd.grad([o for o, _ in used], inputs, [c for _, c in used], allow_unused=True)
        grads = [torch.zeros_like(t) if g is None else g for g, t in zip(grads, inputs, strict=True)]
    return [*outputs, *grads]


def test_every_cuda_kernel_is_emulated(on_emulator):
    """The emulator's library registers what the CUDA library would: all ops of the package."""
    assert {case.op for case in CASES} <= set(on_emulator.names())


@every_case
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equals_reference(on_emulator, case, dtype):
    if dtype == torch.float64 and case.op in WITHOUT_FLOAT64:
        pytest.skip(f"{case.op} has no float64 kernel")
    tensors = case.tensors(dtype)
    expected = results(case, {n: t.double() for n, t in tensors.items()}, "reference")
    first = None
    for schedule in on_emulator.schedules:
        on_emulator.schedule(*schedule)
        actual = results(case, tensors, "fused")
        outputs = len(actual) - len(case.differentiable)
        for position, (a, e) in enumerate(zip(actual, expected, strict=True)):
            assert_close(a, e, dtype, f"result {position}", case.roundings() if position >= outputs else 0)
        first = first or actual
        assert all(torch.equal(a, f) for a, f in zip(actual, first, strict=True)), "depends on the order of threads"


@every_case
def test_strided_inputs(on_emulator, case):
    tensors = case.tensors(torch.float32)
    strided = {n: torch.stack([t, t], -1)[..., 0] if t.numel() else t for n, t in tensors.items()}
    for actual, expected in zip(results(case, strided, "fused"), results(case, tensors, "fused"), strict=True):
        assert torch.equal(actual, expected)
