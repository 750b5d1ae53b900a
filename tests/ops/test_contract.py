"""The contract every op keeps, over one table of calls (cips3d_ext.testing.CASES).

Same numbers as the reference in all dtypes, derivatives of both orders, fakes, torch.compile, autocast, layouts, empty
batches, determinism.
"""

from dataclasses import replace

import pytest
import torch

import cips3d_ext
from cips3d_ext.ops import _registry
from cips3d_ext.testing import CASES, Case, assert_close

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.op}-{case.id}")
every_device = pytest.mark.parametrize("device", DEVICES)
differentiable_cases = pytest.mark.parametrize(
    "case", [case for case in CASES if case.differentiable], ids=lambda case: f"{case.op}-{case.id}"
)


@pytest.fixture(autouse=True)
def _ops_of_parts(request):
    """An op without a kernel of its own on a device runs its parts there, which are tested themselves."""
    given = getattr(request.node, "callspec", None)
    case, device = (given.params.get(name) for name in ("case", "device")) if given else (None, None)
    if case and device and _registry.REGISTRY[case.op].parts and device not in _registry.NATIVE_DEVICES[case.op]:
        pytest.skip(f"{case.op} as a whole has no {device} kernel")


def native(case: Case, dtype: torch.dtype, device: str) -> str:
    """ "fused", or "auto" for calls that the device's kernel does not take: the native kernels of the parts do."""
    beyond = dtype == torch.float64 and device == "cuda" and _registry.REGISTRY[case.op].beyond
    return "auto" if beyond else "fused"


def gradients(case: Case, tensors: dict, impl: str) -> tuple[list, list]:
    outputs = case.run(tensors, impl)
    generator = torch.Generator().manual_seed(1)
    cotangents = [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o) for o in outputs]
    inputs = [tensors[name] for name in case.differentiable]
    used = [(o, c) for o, c in zip(outputs, cotangents, strict=True) if o.requires_grad and o.isfinite().all()]
    grads = torch.autograd.grad([o for o, _ in used], inputs, [c for _, c in used], allow_unused=True)
    return list(outputs), [torch.zeros_like(t) if g is None else g for g, t in zip(grads, inputs, strict=True)]


@every_device
@pytest.mark.parametrize("op", sorted(_registry.REGISTRY))
def test_every_op_has_a_native_kernel(op, device):
    entry = cips3d_ext.status().ops[op][device]
    allowed = ("native", "parts") if device != "cpu" else ("native",)
    assert entry.implementation in allowed, entry.reasons


@every_case
@every_device
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_fused_equals_reference(case, device, dtype):
    """Outputs and first derivatives; the reference takes the same rounded inputs in float64."""
    rounded = case.tensors(dtype, device)
    wide = {n: t.double().requires_grad_(n in case.differentiable) for n, t in rounded.items()}
    tensors = {n: t.requires_grad_(n in case.differentiable) for n, t in rounded.items()}
    if not case.differentiable:
        pairs = zip(case.run(tensors, native(case, dtype, device)), case.run(wide, "reference"), strict=True)
        for position, (actual, expected) in enumerate(pairs):
            assert_close(actual, expected, dtype, f"output {position}")
        return
    outputs, grads = gradients(case, tensors, native(case, dtype, device))
    expected_outputs, expected_grads = gradients(case, wide, "reference")
    for position, (actual, expected) in enumerate(zip(outputs, expected_outputs, strict=True)):
        assert actual.dtype == dtype and actual.is_contiguous()
        assert_close(actual, expected, dtype, f"output {position}")
    for name, actual, expected in zip(case.differentiable, grads, expected_grads, strict=True):
        assert actual.dtype == dtype
        assert_close(actual, expected, dtype, f"gradient of {name}", case.roundings() if device == "cuda" else 0)


def appends_infinity(options: dict) -> bool:
    appends = options.get("rule", "left") == "left" and "far" not in options and not options.get("unit_delta")
    return appends and options.get("last_delta", 1e10) >= 1e9


# Finite differences move the fine depths of render_rays (u), which are constants: tests/ops/test_render_rays.py.
@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.differentiable and "u" not in case.tensors(torch.float64)],
    ids=lambda case: f"{case.op}-{case.id}",
)
@every_device
def test_derivatives_of_both_orders(case, device):
    if case.op == "volume_render" and appends_infinity(case.options):
        case = replace(case, options=case.options | {"last_delta": 0.4})  # finite differences cannot see a step
    tensors = case.tensors(torch.float64, device, requires_grad=True)
    inputs = tuple(tensors[name] for name in case.differentiable)

    def run(*values):
        given = tensors | dict(zip(case.differentiable, values, strict=True))
        return case.run(given, native(case, torch.float64, device))

    torch.autograd.gradcheck(run, inputs, fast_mode=True)
    torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


# Registration does not depend on sizes, and tracing the reference backward takes long for many samples.
OPCHECKED = ("plain", "cips3d", "noise", "skip", "skip_and_rgb", "channels_first", "siren", "no_points")
OPCHECKED += ("one_pass", "eg3d", "stylesdf", "hierarchical")
opcheck_cases = pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.id in OPCHECKED],
    ids=lambda case: f"{case.op}-{case.id}",
)


@opcheck_cases
@every_device
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own in torch 2.15
def test_opcheck(case, device, monkeypatch):
    """Schema, autograd registration, fake and AOT dispatch of every dispatcher op that the call reaches."""
    calls = []
    real = _registry.dispatcher_op

    def record(name):
        op = real(name)
        return lambda *args: calls.append((op, args)) or op(*args)

    for module in ("_registry", case.op):
        monkeypatch.setattr(f"cips3d_ext.ops.{module}.dispatcher_op", record, raising=False)
    tensors = case.tensors(torch.float64, device, requires_grad=True)
    outputs = case.run(tensors, native(case, torch.float64, device))
    if case.differentiable:
        sum(o.sum() for o in outputs if o.requires_grad).backward()
    assert calls
    for op, args in tuple(calls):  # opcheck makes further ones
        fresh = [a.detach().requires_grad_(a.is_floating_point()) if isinstance(a, torch.Tensor) else a for a in args]
        torch.library.opcheck(op, tuple(fresh))


@differentiable_cases
@every_device
@pytest.mark.parametrize(("impl", "dynamic"), [("fused", False), ("auto", True), ("reference", False)])
def test_compile_without_graph_breaks(case, device, impl, dynamic):
    torch._dynamo.reset()
    tensors = case.tensors(torch.float32, device, requires_grad=True)
    inputs = [tensors[name] for name in case.differentiable]

    def loss(*values):
        outputs = case.run(tensors | dict(zip(case.differentiable, values, strict=True)), impl)
        return sum(o.square().sum() for o in outputs if o.requires_grad)

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    actual, expected = compiled(*inputs), loss(*inputs)
    torch.testing.assert_close(actual, expected)
    actual_grads = torch.autograd.grad(actual, inputs, allow_unused=True)
    expected_grads = torch.autograd.grad(expected, inputs, allow_unused=True)
    for a, e in zip(actual_grads, expected_grads, strict=True):
        torch.testing.assert_close(a, e)


@every_case
@every_device
def test_layouts(case, device):
    """Transposed and expanded inputs give what their contiguous copies give."""
    tensors = case.tensors(torch.float32, device)
    strided = {n: torch.stack([t, t], -1)[..., 0] if t.numel() else t for n, t in tensors.items()}
    assert case.id == "one_sample" or any(not t.is_contiguous() for t in strided.values())
    for actual, expected in zip(case.run(strided, "fused"), case.run(tensors, "fused"), strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    expanded = {n: t[:1].expand_as(t) if n not in ("weight", "bias", "beta") else t for n, t in tensors.items()}
    copies = {n: t.contiguous() for n, t in expanded.items()}
    for actual, expected in zip(case.run(expanded, "fused"), case.run(copies, "fused"), strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@every_case
@every_device
def test_slices(case, device):
    """Columns of wider rows give what their copies give, forward and backward; what lies beside them is not read."""
    tensors = case.tensors(torch.float32, device)
    wide = {n: torch.cat([t, torch.full_like(t[..., :1], torch.nan)], -1) for n, t in tensors.items() if t.dim()}
    slices = tensors | {n: t[..., :-1] for n, t in wide.items()}
    results = []
    for given in (tensors, slices):
        leaves = {n: t.detach().requires_grad_(n in case.differentiable) for n, t in given.items()}
        outputs = case.run(leaves, "fused")
        inputs = [leaves[n] for n in case.differentiable]
        totals = [o.square().sum() for o in outputs if o.requires_grad]
        results.append([*outputs, *(torch.autograd.grad(sum(totals), inputs, allow_unused=True) if inputs else [])])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@every_case
@every_device
def test_empty_batch(case, device):
    shared = ("weight", "bias", "to_rgb")
    if case.op not in ("film_sine", "siren_field", "render_rays"):
        shared = (*shared, "beta")
    full = case.tensors(torch.float32, device)
    if "noise" in full and full["noise"].dim() != full[next(iter(full))].dim():
        shared = (*shared, "noise")
    tensors = {n: t if {n, n.split("_")[0]} & {*shared} else t[:0] for n, t in full.items()}  # weight_0: a layer's
    inputs = [tensors[name].requires_grad_() for name in case.differentiable]
    outputs = case.run(tensors, "fused")
    assert all(o.shape[0] == 0 for o in outputs)
    if inputs:
        for name, grad in zip(
            case.differentiable,
            torch.autograd.grad(sum(o.sum() for o in outputs), inputs, allow_unused=True),
            strict=True,
        ):
            assert grad is None or not grad.any(), name


@every_case
@every_device
def test_same_bits_every_time(case, device):
    runs = (
        [gradients(case, case.tensors(torch.float32, device, requires_grad=True), "fused") for _ in range(2)]
        if (case.differentiable)
        else [(list(case.run(case.tensors(torch.float32, device), "fused")), []) for _ in range(2)]
    )
    for first, second in zip(runs[0][0] + runs[0][1], runs[1][0] + runs[1][1], strict=True):
        assert torch.equal(first, second)


@every_case
@every_device
def test_autocast(case, device):
    """The layers and the field take the active dtype; the ray ops compute and return float32."""
    tensors = case.tensors(torch.float32, device)
    active = torch.bfloat16
    takes_active = case.op in ("modfc", "film_sine", "siren_field")
    with torch.autocast(device, dtype=active):
        outputs = case.run(tensors, "fused")
        references = case.run(tensors, "reference")
        doubles = case.run(case.tensors(torch.float64, device), native(case, torch.float64, device))
    assert all(o.dtype == (active if takes_active else torch.float32) for o in outputs)
    assert all(o.dtype == torch.float64 for o in doubles)
    for actual, expected in zip(outputs, references, strict=True):
        assert_close(actual, expected, active if takes_active else torch.float32, "under autocast")
    if not takes_active and case.op != "merge_samples":
        halves = {n: t.to(active) for n, t in tensors.items()}
        with torch.autocast(device, dtype=active):
            results = case.run(halves, "fused")
        features = case.op == "volume_render" and "features" in halves
        assert all(o.dtype == torch.float32 for o in results[1 if features else 0 :])


@every_case
def test_meta_tensors_give_shapes(case):
    expected = case.run(case.tensors(torch.float32), "reference")
    if case.options.get("depth") == "expected":
        pytest.skip("the clamp of expected depths to their range needs values, which meta tensors do not have")
    for actual, want in zip(case.run(case.tensors(torch.float32, "meta"), "auto"), expected, strict=True):
        assert actual.is_meta and actual.shape == want.shape and actual.dtype == want.dtype


@differentiable_cases
@every_device
@pytest.mark.parametrize("impl", ["fused", "reference"])
def test_outputs_can_be_written_in_place(case, device, impl):
    """Callers do in-place work on outputs (LeakyReLU(inplace=True), weights[..., -1] += ...): it harms nothing. The y
    that modfc keeps for the gradient of to_rgb cannot be written unnoticed (test_errors.py)."""
    tensors = case.tensors(torch.float32, device, requires_grad=True)
    first = 1 if "to_rgb" in tensors else 0
    outputs = [o for o in case.run(tensors, impl)[first:] if o.requires_grad]
    for output in outputs:
        output.mul_(2.0)
    torch.autograd.backward([o.sum() for o in outputs])
    doubled = [tensors[name].grad for name in case.differentiable]
    again = case.tensors(torch.float32, device, requires_grad=True)
    torch.autograd.backward([2 * o.sum() for o in case.run(again, impl)[first:] if o.requires_grad])
    for grad, name in zip(doubled, case.differentiable, strict=True):
        torch.testing.assert_close(grad, again[name].grad)
