"""film_sine's reference: forward against float64 loops, closed-form backward against autograd, in both orders."""

import math

import pytest
import torch
from torch import Tensor

from cips3d_ext.reference import film_sine, film_sine_backward

B, N, I, O = 2, 3, 5, 4
CIPS3D = {"gamma_scale": 15.0, "gamma_offset": 30.0}
STYLESDF = {"gamma_scale": 15.0, "gamma_offset": 30.0, "beta_scale": 0.25}
# (bias, gamma, beta) present
PRESENT = [(True, True, True), (False, True, True), (True, False, False), (False, False, True), (True, True, False)]


def sample(bias: bool, gamma: bool, beta: bool, dtype: torch.dtype = torch.float64) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(B, N, I), (O, I), (O,) if bias else None, (B, O) if gamma else None, (B, O) if beta else None]
    return [
        None if shape is None else torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        for shape in shapes
    ]


def film_sine_loops(x, weight, bias, gamma, beta, gamma_scale=1.0, gamma_offset=0.0, beta_scale=1.0):
    y = torch.zeros(B, N, O, dtype=torch.float64)
    for b in range(B):
        for n in range(N):
            for o in range(O):
                v = sum(float(x[b, n, i]) * float(weight[o, i]) for i in range(I))
                v += 0.0 if bias is None else float(bias[o])
                g = 1.0 if gamma is None else gamma_scale * float(gamma[b, o]) + gamma_offset
                h = 0.0 if beta is None else beta_scale * float(beta[b, o])
                y[b, n, o] = math.sin(g * v + h)
    return y


@pytest.mark.parametrize("options", [{}, CIPS3D, STYLESDF], ids=["plain", "cips3d", "stylesdf"])
@pytest.mark.parametrize("present", PRESENT, ids=str)
def test_forward_is_the_formula(options, present):
    tensors = sample(*present)
    # arguments reach some 200 rad, where float64 itself resolves 3e-14
    torch.testing.assert_close(film_sine(*tensors, **options), film_sine_loops(*tensors, **options), rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{}, CIPS3D, STYLESDF], ids=["plain", "cips3d", "stylesdf"])
@pytest.mark.parametrize("present", PRESENT, ids=str)
def test_backward_is_autograd_in_both_orders(options, present):
    tensors = [None if t is None else t.requires_grad_() for t in sample(*present)]
    given = [t for t in tensors if t is not None]
    y = film_sine(*tensors, **options)
    grad_y = torch.randn_like(y).requires_grad_()
    expected = torch.autograd.grad(y, given, grad_y, create_graph=True)
    found = film_sine_backward(grad_y, *tensors, **options)
    assert [g is None for g in found] == [t is None for t in tensors]
    found = [g for g in found if g is not None]
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)

    probes = [torch.randn_like(g) for g in expected]
    second_expected = torch.autograd.grad(expected, [grad_y, *given], probes)
    second_found = torch.autograd.grad(found, [grad_y, *given], probes)
    for got, want in zip(second_found, second_expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_grad_mask_selects():
    tensors = sample(True, True, True)
    found = film_sine_backward(torch.ones(B, N, O, dtype=torch.float64), *tensors, grad_mask=0b10010)
    assert [g is not None for g in found] == [False, True, False, False, True]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_compute_in_float32_and_round_once(dtype):
    tensors = sample(True, True, True, dtype)
    wide = [t.float() for t in tensors]
    y = film_sine(*tensors, **CIPS3D)
    assert y.dtype == dtype
    assert torch.equal(y, film_sine(*wide, **CIPS3D).to(dtype))
    found = film_sine_backward(torch.ones_like(y), *tensors, **CIPS3D)
    expected = film_sine_backward(torch.ones_like(y).float(), *wide, **CIPS3D)
    assert all(torch.equal(got, want.to(dtype)) for got, want in zip(found, expected, strict=True))


@pytest.mark.parametrize("shape", [(0, N), (B, 0), (1, 1)])
def test_empty_and_single_rows(shape):
    inputs = (torch.ones(*shape, I), torch.ones(O, I), torch.ones(O), torch.ones(shape[0], O), torch.ones(shape[0], O))
    y = film_sine(*inputs)
    assert y.shape == (*shape, O)
    found = film_sine_backward(torch.ones_like(y), *inputs)
    assert [g.shape for g in found] == [t.shape for t in inputs]
