"""Steps that differentiate twice (path lengths, eikonal terms): what they compute, and what they leave out."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cips3d_ext import film_sine, modfc, siren_field
from cips3d_ext.ops import _registry

B, N, I, O = 2, 300, 36, 40  # points and inputs enough for the kernels to keep what they keep of large layers
PRODUCT = B * N * I * O
LRELU = {"activation": "lrelu", "gain": math.sqrt(2), "clamp": 1.5}


def channels_first(x, weight, style, bias, noise, **options):
    """modfc of columns, from rows to rows."""
    return modfc(x.mT, weight, style, bias, noise.mT, channels_first=True, **options).mT


LAYERS = {
    "film_sine": film_sine,
    "linear": modfc,
    "lrelu": lambda *tensors, **options: modfc(*tensors, **LRELU, **options),
    "lrelu_plain": lambda *tensors, **options: modfc(*tensors, demodulate=False, **LRELU, **options),
    "relu": lambda *tensors, **options: modfc(*tensors, activation="relu", **options),
    "sin": lambda *tensors, **options: modfc(*tensors, activation="sin", **options),
    "lrelu_columns": lambda *tensors, **options: channels_first(*tensors, **LRELU, **options),
    "sin_columns": lambda *tensors, **options: channels_first(*tensors, activation="sin", **options),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


@pytest.fixture
def without_second_kernel(monkeypatch):
    """As on a device without kernels of second derivatives: the reference backward is differentiated."""
    monkeypatch.setattr(_registry, "has_second", lambda *_: False)


class LargeProducts(TorchDispatchMode):
    """Counts the products of at least so many multiplications, by default the layers' own."""

    def __init__(self, size=PRODUCT):
        super().__init__()
        self.size, self.count = size, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.bmm, torch.ops.aten.addmm):
            self.count += result.numel() * args[-1].shape[-2] >= self.size
        return result


def sample(name, dtype=torch.float64):
    """x, the tensors that follow it and a cotangent."""
    generator = torch.Generator().manual_seed(0)
    styles = [(O,), (B, O), (B, O)] if name == "film_sine" else [(B, I), (O,), (B, N, 1)]
    shapes = [(B, N, I), (O, I), *styles, (B, N, O)]
    *tensors, grad = (torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes)
    return [t.requires_grad_() for t in tensors], grad.requires_grad_()


def derivatives(name, impl, order):
    """The gradients of x and of the styles, and of their squares again, by all inputs and the cotangent."""
    inputs, grad = sample(name)
    found = torch.autograd.grad(LAYERS[name](*inputs, impl=impl), [inputs[0], *inputs[2:]], grad, create_graph=True)
    for left in reversed(range(order - 1)):
        squares = sum(g.square().sum() for g in found)
        found = torch.autograd.grad(squares, [*inputs, grad], create_graph=left > 0, materialize_grads=True)
    return found


@every_layer
@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives_are_those_of_the_formula(name, order, without_second_kernel):
    check_derivatives(name, order)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives_by_the_second_kernel_are_those_of_the_formula(order):
    check_derivatives("film_sine", order)


def test_the_gradient_of_a_weights_gradient_is_that_of_the_formula():
    """The second kernel knows no direction of the weight."""
    found, wanted = [], []
    for impl, results in (("fused", found), ("reference", wanted)):
        inputs, grad = sample("film_sine")
        first = torch.autograd.grad(film_sine(*inputs, impl=impl), inputs, grad, create_graph=True)
        results += torch.autograd.grad(sum(g.square().sum() for g in first), [*inputs, grad])
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9 * b.abs().max().item())


def check_derivatives(name, order):
    for found, wanted in zip(derivatives(name, "fused", order), derivatives(name, "reference", order), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9 * wanted.abs().max().item())


# A layer's weight has no gradient in a path length's or an eikonal term's first derivative; the product of the forward
# is there already. By x: one product; by a style of modfc, also that of its samples' weights.
@every_layer
def test_a_first_derivative_computes_what_is_wanted(name, without_second_kernel):
    inputs, grad = sample(name)
    y = LAYERS[name](*inputs, impl="fused")
    for wanted, products in (([inputs[0]], 1), ([inputs[0], inputs[2]], 1 if name == "film_sine" else 2)):
        with LargeProducts() as large:
            torch.autograd.grad(y, wanted, grad, create_graph=True)
        assert large.count == products


def test_a_fields_normals_compute_no_gradient_of_its_weights():
    """Of the one wide layer: its linear map, which siren_field does not keep, and the gradient of its input."""
    points, weight = torch.rand(B, N, 3, requires_grad=True), torch.randn(I, I, requires_grad=True)
    layers = [(torch.randn(I, 3), torch.randn(I)), (weight, torch.randn(I))]
    density = siren_field(points, layers, (torch.randn(1, I), torch.zeros(1))).density
    with LargeProducts(B * N * I * I) as large:
        torch.autograd.grad(density.sum(), points, create_graph=True)
    assert large.count == 2


@every_layer
def test_a_gradient_that_nobody_takes_is_not_asked_of_the_kernel(name, monkeypatch):
    masks, real = [], _registry.dispatcher_op
    monkeypatch.setattr(_registry, "dispatcher_op", lambda op: lambda *args: masks.append(args[-1]) or real(op)(*args))
    inputs, grad = sample(name)
    y = LAYERS[name](*inputs)
    masks.clear()
    torch.autograd.grad(y, inputs[0], grad, retain_graph=True)
    y.backward(grad, inputs=inputs[:2], retain_graph=True)
    y.backward(grad)
    assert masks == [0b1, 0b11, 0b11111]


class LargestTensor(TorchDispatchMode):
    """How many numbers the largest tensor has that anything computes."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = result if isinstance(result, (tuple, list)) else [result]
        self.numbers = max([self.numbers, *(t.numel() for t in tensors if isinstance(t, torch.Tensor))])
        return result


def test_many_samples_of_few_rows_have_no_weights_of_their_own():
    """4096 x 1 rows of 512 would take 4 GB of them."""
    samples, width = 32, 24
    x, style = torch.randn(samples, 1, width), torch.randn(samples, width)
    leaves = [t.requires_grad_() for t in (x, torch.randn(width, width), style)]
    with LargestTensor() as largest:
        found = torch.autograd.grad(modfc(*leaves, activation="lrelu").square().sum(), leaves, create_graph=True)
        torch.autograd.grad(sum(g.square().sum() for g in found), leaves)
    assert largest.numbers < samples * width * width
