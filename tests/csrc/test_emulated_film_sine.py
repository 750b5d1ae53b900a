"""film_sine's CUDA kernels on the emulator, against the reference in float64."""

import pytest
import torch

from cips3d_ext import reference
from cips3d_ext.testing import assert_close, relative_error

from ._modes import every_mode

# Largest error of float32 products with operands of two bfloat16: 2^-17 each and what they leave out of the product,
# times a frequency of 8.
SPLIT_OPERANDS = 2.0**-11
OPTIONS = (1.5, 3.0, 0.25)  # gamma_scale, gamma_offset, beta_scale
ALL_GRADIENTS = 0b11111
NOTHING = torch.empty(0)  # the CUDA forward keeps nothing for its backward, whatever it is told
SIZES = [  # B, N, I, O: odd channels, one point, several tiles with whole quads, sums in several parts
    (2, 5, 3, 35),
    (1, 1, 35, 259),
    (3, 1, 259, 3),
    (2, 130, 16, 68),
    (1, 2100, 3, 4),
    (3, 70, 136, 200),  # tiles with rows of two samples; copied 16 bytes at a time
]
EMPTY = [(2, 0, 4, 4), (0, 3, 4, 4), (2, 3, 4, 0), (2, 3, 0, 4)]


def inputs(sizes, dtype, film=True):
    B, N, I, O = sizes
    generator = torch.Generator().manual_seed(sum(sizes))
    shapes = [(B, N, I), (O, I), (O,), (B, O), (B, O)] if film else [(B, N, I), (O, I)]
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    tensors[1] /= max(I, 1) ** 0.5
    tensors = [t.to(dtype) for t in tensors]
    return tensors if film else [*tensors, None, None, None]


def expected(tensors, grad_y=None):
    """y, or all gradients, by the reference in float64."""
    wide = [None if t is None else t.double().requires_grad_() for t in tensors]
    y = reference.film_sine(*wide, **dict(zip(("gamma_scale", "gamma_offset", "beta_scale"), OPTIONS, strict=True)))
    if grad_y is None:
        return y.detach()
    present = [t for t in wide if t is not None]
    grads = iter(torch.autograd.grad(y, present, grad_y.double()))
    return [None if t is None else next(grads) for t in wide]


def check(actual, wanted, dtype, reduced, what):
    if reduced:
        assert relative_error(actual, wanted) < SPLIT_OPERANDS, what
    else:
        assert_close(actual, wanted, dtype, what)


@every_mode
@pytest.mark.parametrize("sizes", SIZES + EMPTY, ids=str)
def test_forward(emulated, sizes, dtype, reduced):
    tensors = inputs(sizes, dtype)
    y, kept = emulated.in_all_schedules(emulated.ops.film_sine, *tensors, *OPTIONS, reduced, "linear")
    assert y.dtype == dtype and kept.shape == (0,)
    check(y, expected(tensors), dtype, reduced, "y")


@every_mode
@pytest.mark.parametrize("sizes", SIZES + EMPTY, ids=str)
def test_backward(emulated, sizes, dtype, reduced):
    tensors = inputs(sizes, dtype)
    grad_y = torch.randn(sizes[0], sizes[1], sizes[3], dtype=torch.float64).to(dtype)
    call = (grad_y, NOTHING, *tensors, *OPTIONS, reduced, ALL_GRADIENTS)
    grads = emulated.in_all_schedules(emulated.ops.film_sine_backward, *call)
    for grad, wanted, tensor in zip(grads, expected(tensors, grad_y), tensors, strict=True):
        assert grad.dtype == tensor.dtype
        check(grad, wanted, dtype, reduced, "gradient")


def test_without_film_and_from_non_contiguous_input(emulated):
    tensors = inputs((2, 7, 6, 5), torch.float32, film=False)
    tensors[0] = tensors[0].transpose(0, 1).contiguous().transpose(0, 1)
    grad_y = torch.ones(()).expand(2, 7, 5)
    assert_close(emulated.ops.film_sine(*tensors, *OPTIONS, False, "")[0], expected(tensors), torch.float32, "y")
    grads = emulated.ops.film_sine_backward(grad_y, NOTHING, *tensors, *OPTIONS, False, ALL_GRADIENTS)
    for grad, wanted in zip(grads[:2], expected(tensors, grad_y)[:2], strict=True):
        assert_close(grad, wanted, torch.float32, "gradient")
    assert [g.shape for g in grads[2:]] == [(0,)] * 3


@pytest.mark.parametrize("position", range(5))
def test_one_gradient_alone(emulated, position):
    tensors = inputs((2, 5, 3, 7), torch.float32)
    grad_y = torch.randn(2, 5, 7)
    grads = emulated.ops.film_sine_backward(grad_y, NOTHING, *tensors, *OPTIONS, False, 1 << position)
    assert_close(grads[position], expected(tensors, grad_y)[position], torch.float32, "gradient")
    assert [g.shape for i, g in enumerate(grads) if i != position] == [(0,)] * 4


def test_shape_errors_name_the_argument(emulated):
    x, weight, bias, gamma, beta = inputs((2, 5, 3, 7), torch.float32)
    with pytest.raises(RuntimeError, match=r"film_sine: gamma must be \[B,O\].*got \[2,6\]"):
        emulated.ops.film_sine(x, weight, bias, gamma[:, :6], beta, *OPTIONS, False, "")
