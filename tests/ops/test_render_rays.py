"""What render_rays promises beyond the contract: second derivatives past the fine depths, the native parts where it has
no kernel itself, and memory."""

import importlib
from dataclasses import replace

import pytest
import torch

from cips3d_ext.ops import _registry
from cips3d_ext.testing import Case, cases_of

render_rays_module = importlib.import_module("cips3d_ext.ops.render_rays")  # the function has its name
CASES = cases_of("render_rays")
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)


@pytest.fixture
def without_kernel(monkeypatch):
    monkeypatch.setitem(_registry.NATIVE_DEVICES, "render_rays", frozenset())


def two_orders(case: Case, impl: str) -> list[torch.Tensor]:
    """Outputs, gradients and gradients of the gradients, of inputs and of the outputs' gradients."""
    tensors = case.tensors(torch.float64, requires_grad=True)
    inputs = [tensors[name] for name in case.differentiable]
    generator = torch.Generator().manual_seed(5)

    def normal(like):
        return [torch.randn(t.shape, generator=generator, dtype=t.dtype).requires_grad_() for t in like]

    outputs = list(case.run(tensors, impl))
    cotangents = normal(outputs)
    first = torch.autograd.grad(outputs, inputs, cotangents, create_graph=True)
    second = torch.autograd.grad(first, inputs + cotangents, normal(first), allow_unused=True, materialize_grads=True)
    return [*outputs, *first, *second]


@every_case
def test_both_orders_are_those_of_the_reference(case):
    for found, wanted in zip(two_orders(case, "fused"), two_orders(case, "reference"), strict=True):
        torch.testing.assert_close(found, wanted)


def test_without_a_kernel_fused_refuses_and_auto_does_not(without_kernel):
    tensors = CASES[0].tensors(torch.float64)
    with pytest.raises(RuntimeError, match="render_rays: impl='fused' is not possible: .*its parts have: siren_field"):
        CASES[0].run(tensors, "fused")
    CASES[0].run(tensors, "auto")


@every_case
def test_calls_beyond_the_kernel_go_to_the_parts(case, monkeypatch):
    """Both orders, and the reason where the kernel alone will do."""
    spec = replace(_registry.REGISTRY["render_rays"], beyond=lambda device, tensors, options: f"not on a {device}")
    monkeypatch.setitem(_registry.REGISTRY, "render_rays", spec)
    reached = []
    real = _registry.dispatcher_op
    monkeypatch.setattr(_registry, "dispatcher_op", lambda name: reached.append(name) or real(name))
    for found, wanted in zip(two_orders(case, "auto"), two_orders(case, "reference"), strict=True):
        torch.testing.assert_close(found, wanted)
    assert set(reached) == {"render_rays_of_parts"}, "with create_graph the reference gives the first derivatives"
    sum(t.sum() for t in case.run(case.tensors(torch.float64, requires_grad=True), "auto")).backward()
    assert set(reached) == {"render_rays_of_parts", "render_rays_of_parts_backward"}
    with pytest.raises(RuntimeError, match="render_rays: impl='fused' is not possible: not on a cpu. Use impl='auto'"):
        case.run(case.tensors(torch.float64), "fused")


@every_case
@pytest.mark.parametrize("mask", [0b11111, 0b11100, 0b00010], ids=bin)
def test_made_of_its_parts_it_is_the_reference(case, mask, monkeypatch):
    """What the dispatcher op runs where the parts alone have kernels: these, forward and backward."""
    arguments = []
    monkeypatch.setattr(render_rays_module, "call", lambda *given: arguments.append(given) or (None,) * 3)
    case.run(case.tensors(torch.float64))
    _, _, tensors, options = arguments[0]
    spec = _registry.REGISTRY["render_rays"]
    options = dict(zip(spec.options, options, strict=True))
    reached = []
    real = _registry.dispatcher_op
    monkeypatch.setattr(render_rays_module, "dispatcher_op", lambda name: reached.append(name) or real(name))

    found, wanted = spec.of_parts(*tensors, **options), spec.reference(*tensors, **options)
    cotangents = [torch.randn_like(output) for output in wanted[:3]]
    given = (*cotangents, wanted[3], *tensors)
    found += spec.of_parts_backward(*given, **options, grad_mask=mask)
    wanted += spec.reference_backward(*given, **options, grad_mask=mask)
    for actual, expected in zip(found, wanted, strict=True):
        assert (actual is None) == (expected is None)
        if actual is not None:
            torch.testing.assert_close(actual, expected)
    assert {*spec.parts, "siren_field_backward", "volume_render_backward"} <= set(reached)


def test_nothing_of_a_sample_is_kept_for_backward():
    """Saved for backward: inputs, and the fine depths. 16 channels would be 16 numbers a sample."""
    case = next(case for case in CASES if case.id == "two_passes")
    tensors = case.tensors(torch.float32, requires_grad=True)
    given = {t.untyped_storage().data_ptr() for t in tensors.values()}
    kept: dict[int, int] = {}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in given:
            kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = case.run(tensors, "fused")
    assert outputs[0].requires_grad
    packed = sum(t.numel() for n, t in tensors.items() if n.startswith(("weight", "bias", "gamma", "beta")))
    assert sum(kept.values()) == packed + tensors["u"].numel()


def test_under_autocast_it_computes_in_float32():
    """Styles come in the active dtype, rays and weights in float32."""
    case = next(case for case in CASES if case.id == "two_passes")
    tensors = case.tensors(torch.float32)
    mixed = {n: t.bfloat16() if n.startswith(("gamma", "beta")) else t for n, t in tensors.items()}
    rounded = {n: t.float() for n, t in mixed.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = case.run(mixed)
    for actual, wanted in zip(found, case.run(rounded), strict=True):
        assert actual.dtype == torch.float32 and torch.equal(actual, wanted)
    with pytest.raises(TypeError, match=r"render_rays: gamma\[0\] is torch.bfloat16 but origins is torch.float32"):
        case.run(mixed)
