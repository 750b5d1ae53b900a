"""Residuals: what a forward op hands to its backward op alone, beside its results.

The toy op is y = x^2 w, z = w with the residual x^3 in place of what a kernel would keep.
"""

import pytest
import torch

from cips3d_ext import modfc, modfc_with_rgb
from cips3d_ext.ops import _registry

NAME = "toy_with_residual"
SCHEMA = f"{NAME}(Tensor x, Tensor w, float factor, str keep) -> (Tensor y, Tensor z, Tensor cubes)"
BACKWARD_SCHEMA = (
    f"{NAME}_backward(Tensor? grad_y, Tensor? grad_z, Tensor cubes, Tensor x, Tensor w, float factor, int grad_mask) "
    "-> (Tensor grad_x, Tensor grad_w)"
)
seen: list[tuple[int, bool, bool]] = []  # of each backward: elements of the residual, gradients of y and z given


def reference(x, w, *, factor):
    return factor * x.square() * w, w.clone(), x**3


def reference_backward(grad_y, grad_z, cubes, x, w, *, factor, grad_mask):
    seen.append((cubes.numel(), grad_y is not None, grad_z is not None))
    grad_x, grad_w = torch.zeros_like(x), torch.zeros_like(w)
    if grad_y is not None:
        grad_x, grad_w = grad_y * factor * 2 * x * w, grad_y * factor * x.square()
    if grad_z is not None:
        grad_w = grad_w + grad_z
    return grad_x if grad_mask & 1 else None, grad_w if grad_mask & 2 else None


def fake(x, w, factor, keep):
    return torch.empty_like(x), torch.empty_like(w), torch.empty_like(x)


@pytest.fixture(scope="module")
def registered():
    registry, native = dict(_registry.REGISTRY), dict(_registry.NATIVE_DEVICES)
    _registry.register(
        _registry.OpSpec(
            NAME, SCHEMA, reference, fake, BACKWARD_SCHEMA, reference_backward, ((0,), (1,)), 1, lambda *_: "cubes"
        )
    )
    _registry.NATIVE_DEVICES[NAME] = frozenset({"cpu"})  # so that `call` takes the dispatcher op
    yield
    for table, before in ((_registry.REGISTRY, registry), (_registry.NATIVE_DEVICES, native)):
        table.clear()
        table.update(before)


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    return [torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]


def run(impl, *tensors):
    return _registry.call(NAME, impl, tensors, (1.5,))


@pytest.mark.parametrize("impl", ["fused", "reference"])
def test_call_returns_the_results_alone(registered, inputs, impl):
    results = run(impl, *inputs)
    assert len(results) == 2
    torch.testing.assert_close(results[0], 1.5 * inputs[0].square() * inputs[1])


def test_residuals_have_no_gradient_and_reach_the_backward(registered, inputs):
    assert [o.requires_grad for o in _registry.dispatcher_op(NAME)(*inputs, 1.5, "cubes")] == [True, True, False]
    y, z = run("fused", *inputs)
    seen.clear()
    grads = torch.autograd.grad(y.sum(), inputs, retain_graph=True)
    assert seen == [(12, True, False)]
    for found, wanted in zip(grads, (3 * inputs[0] * inputs[1], 1.5 * inputs[0].square()), strict=True):
        torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(torch.autograd.grad(z.sum(), inputs[1])[0], torch.ones(3, 4, dtype=torch.float64))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own in torch 2.15
def test_both_orders_and_opcheck(registered, inputs):
    torch.autograd.gradcheck(lambda *t: run("fused", *t), inputs)
    torch.autograd.gradgradcheck(lambda *t: run("fused", *t), inputs)
    torch.library.opcheck(_registry.dispatcher_op(NAME), (*inputs, 1.5, "cubes"))
    grads = [torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    cubes = (inputs[0] ** 3).detach().requires_grad_()
    args = (*grads, cubes, *inputs, 1.5, 3)
    backward = _registry.dispatcher_op(f"{NAME}_backward")
    torch.library.opcheck(backward, args)
    torch.autograd.gradcheck(lambda *t: backward(*t[:2], cubes.detach(), *t[2:], 1.5, 3), (*grads, *inputs))
    found = backward(*args)
    assert torch.autograd.grad(found[0].sum(), cubes, allow_unused=True) == (None,)


def test_keep_says_whether_a_backward_may_follow(registered, inputs, monkeypatch):
    kept = []
    real = _registry.dispatcher_op
    monkeypatch.setattr(
        _registry, "dispatcher_op", lambda name: lambda *args: kept.append(args[-1]) or real(name)(*args)
    )
    run("fused", *inputs)
    with torch.no_grad():
        run("fused", *inputs)
    run("fused", *(t.detach() for t in inputs))
    assert kept == ["cubes", "", ""]


def test_compiles_whole(registered, inputs):
    torch._dynamo.reset()
    compiled = torch.compile(lambda *t: run("fused", *t)[0].sum(), fullgraph=True, backend="aot_eager")
    actual, expected = (
        torch.autograd.grad(f(*inputs), inputs) for f in (compiled, lambda *t: run("fused", *t)[0].sum())
    )
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*inputs), run("fused", *inputs)[0].sum())


@pytest.fixture
def backward_calls(monkeypatch):
    """Of each call of modfc_backward: whether it was given y, and its grad_mask."""
    calls, real = [], _registry.dispatcher_op

    def recorded(name):
        def run(*args):
            if name == "modfc_backward":
                calls.append((args[2] is not None, args[-1]))
            return real(name)(*args)

        return run

    monkeypatch.setattr(_registry, "dispatcher_op", recorded)
    return calls


def test_a_gradient_that_is_the_outputs_own_is_passed_on(backward_calls):
    x, weight, style, skip, grad = (torch.randn(s) for s in [(2, 5, 3), (4, 3), (2, 3), (2, 5, 4), (2, 5, 4)])
    skip.requires_grad_()
    (grad_skip,) = torch.autograd.grad(modfc(x, weight, style, skip=skip), skip, grad)
    assert grad_skip.data_ptr() == grad.data_ptr() and not backward_calls
    x.requires_grad_()
    y, rgb = modfc_with_rgb(x, weight, style, torch.ones(3, 4), skip=skip)
    torch.autograd.grad(y, (x, skip), grad, retain_graph=True)
    torch.autograd.grad((y, rgb), (x, skip), (grad, torch.ones_like(rgb)))
    assert backward_calls == [(False, 0b1), (False, 0b100001)]


def test_a_result_is_kept_where_a_gradient_needs_it(backward_calls):
    x, weight, style = torch.randn(2, 5, 3, requires_grad=True), torch.randn(4, 3), torch.randn(2, 3)
    for to_rgb in (torch.ones(3, 4), torch.ones(3, 4, requires_grad=True)):
        modfc_with_rgb(x, weight, style, to_rgb).rgb.sum().backward()
    assert backward_calls == [(False, 0b1), (True, 0b1000001)]


PARTS_NAME = "toy_of_parts"
PARTS_ARGUMENTS = "Tensor x, float factor"


@pytest.fixture(scope="module")
def of_parts():
    """y = factor x, without a kernel; made of modfc, in name, and there counting its calls."""
    registry, native, calls = dict(_registry.REGISTRY), dict(_registry.NATIVE_DEVICES), []

    def forward(x, *, factor):
        return factor * x

    def backward(grad, x, *, factor, grad_mask):
        return (factor * grad,)

    spec = _registry.OpSpec(
        PARTS_NAME,
        f"{PARTS_NAME}({PARTS_ARGUMENTS}) -> Tensor",
        forward,
        lambda x, factor: torch.empty_like(x),
        f"{PARTS_NAME}_backward(Tensor grad, {PARTS_ARGUMENTS}, int grad_mask) -> Tensor[]",
        backward,
        ((0,),),
        parts=("modfc",),
        of_parts=lambda x, **options: calls.append("forward") or forward(x, **options),
        of_parts_backward=lambda *tensors, **options: calls.append("backward") or backward(*tensors, **options),
    )
    _registry.register(spec)
    yield calls
    for table, before in ((_registry.REGISTRY, registry), (_registry.NATIVE_DEVICES, native)):
        table.clear()
        table.update(before)


def test_parts_stand_in_for_a_kernel(of_parts, inputs):
    x = inputs[0]
    of_parts.clear()
    y = _registry.call(PARTS_NAME, "auto", (x,), (3.0,))
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert of_parts == ["forward", "backward"] and torch.equal(grad, torch.full_like(x, 3.0))
    of_parts.clear()
    _registry.call(PARTS_NAME, "reference", (x,), (3.0,)).sum().backward()
    assert not of_parts
    with pytest.raises(RuntimeError, match="as a whole has no cpu kernel, its parts have: modfc"):
        _registry.call(PARTS_NAME, "fused", (x,), (3.0,))
