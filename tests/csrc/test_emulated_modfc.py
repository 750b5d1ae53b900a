"""modfc's CUDA kernels on the emulator, against the reference in float64, at sizes of several tiles and none."""

import pytest
import torch

from cips3d_ext import reference
from cips3d_ext.testing import assert_close, relative_error

from ._modes import every_mode

# Largest error of float32 products with operands of two bfloat16: 2^-17 each, and what they leave out of the product.
SPLIT_OPERANDS = 2.0**-14
ALL_GRADIENTS = 0b11111
NOTHING = (torch.empty(0), torch.empty(0))  # the CUDA forward keeps nothing for its backward
OPTION_NAMES = ("scale", "style_offset", "demodulate", "eps", "activation", "alpha", "gain", "clamp")  # then precision
CIPS3D = (1.0, 1.0, True, 1e-8, "lrelu", 0.2, 1.0, None)
TO_RGB = (0.2, 0.0, False, 1e-8, "linear", 0.2, 1.0, 1.5)
SMOOTH = (1.0, 1.0, True, 1e-8, "sin", 0.2, 1.0, None)  # rounded operands cannot move an element across a kink
SINE = (0.7, 1.0, True, 1e-3, "sin", 0.2, 1.4, 1.0)
SIZES = [  # B, N, I, O: odd channels, single rows, several tiles with whole quads, sums in several parts
    (2, 5, 3, 35),
    (130, 1, 35, 3),
    (1, 1, 259, 35),
    (2, 130, 16, 68),
    (1, 2100, 3, 4),
    (3, 70, 136, 200),  # tiles with rows of two samples; copied 16 bytes at a time
    (2, 97, 95, 259),
    (300, 1, 64, 37),
]
EMPTY = [(2, 0, 4, 4), (0, 3, 4, 4), (2, 3, 4, 0), (2, 3, 0, 4)]


def inputs(sizes, dtype, noise="full"):
    """x, weight, style, bias, noise; all five differentiable in float64."""
    B, N, I, O = sizes
    generator = torch.Generator().manual_seed(sum(sizes))
    shapes = [(B, N, I), (O, I), (B, I), (O,), (B, N, 1) if noise == "expanded" else (B, N, O)]
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    tensors[1] /= max(I, 1) ** 0.5
    tensors = [t.to(dtype) for t in tensors]
    tensors[4] = tensors[4].expand(B, N, O)
    return tensors


def cotangent(sizes, dtype):
    """grad_y [B,N,O], the same in every run: a sum may cancel to much less than its terms, and beside such a sum no
    rounding of the terms is small."""
    generator = torch.Generator().manual_seed(sum(sizes) + 1)
    return torch.randn(sizes[0], sizes[1], sizes[3], generator=generator, dtype=torch.float64).to(dtype)


def expected(tensors, options, grad_y=None):
    """y, or all gradients, by the reference in float64."""
    wide = [t.double().requires_grad_() for t in tensors]
    y = reference.modfc(*wide, **dict(zip(OPTION_NAMES, options, strict=True)))
    return y.detach() if grad_y is None else torch.autograd.grad(y, wide, grad_y.double())


def check(actual, wanted, dtype, reduced, what):
    if reduced:
        assert relative_error(actual, wanted) < SPLIT_OPERANDS, what
    else:
        assert_close(actual, wanted, dtype, what)


@every_mode
@pytest.mark.parametrize("sizes", SIZES + EMPTY, ids=str)
def test_forward(emulated, sizes, dtype, reduced):
    tensors = inputs(sizes, dtype)
    y, *nothing_kept = emulated.in_all_schedules(emulated.ops.modfc, *tensors, *SMOOTH, reduced, "")
    assert all(kept.numel() == 0 for kept in nothing_kept)
    assert y.dtype == dtype
    check(y, expected(tensors, SMOOTH), dtype, reduced, "y")


@every_mode
@pytest.mark.parametrize("sizes", SIZES + EMPTY, ids=str)
def test_backward(emulated, sizes, dtype, reduced):
    tensors = inputs(sizes, dtype)
    grad_y = cotangent(sizes, dtype)
    call = (grad_y, *NOTHING, *tensors, *SMOOTH, reduced, ALL_GRADIENTS)
    grads = emulated.in_all_schedules(emulated.ops.modfc_backward, *call)
    for grad, wanted in zip(grads, expected(tensors, SMOOTH, grad_y), strict=True):
        assert grad.dtype == dtype
        check(grad, wanted, dtype, reduced, "gradient")


@pytest.mark.parametrize("options", [TO_RGB, SINE], ids=["to_rgb", "sine"])
def test_options_and_expanded_noise(emulated, options):
    tensors = inputs((2, 9, 6, 7), torch.float32, noise="expanded")
    assert tensors[4].stride(2) == 0
    y = emulated.ops.modfc(*tensors, *options, False, "")[0]
    assert_close(y, expected(tensors, options), torch.float32, "y")
    grad_y = torch.randn(2, 9, 7)
    grads = emulated.ops.modfc_backward(grad_y, *NOTHING, *tensors, *options, False, ALL_GRADIENTS)
    for grad, wanted in zip(grads, expected(tensors, options, grad_y), strict=True):
        assert_close(grad, wanted, torch.float32, "gradient")


@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize("options", [CIPS3D, TO_RGB], ids=["cips3d", "to_rgb"])
def test_one_gradient_alone(emulated, options, position):
    tensors = inputs((2, 5, 3, 7), torch.float32)
    grad_y = torch.randn(2, 5, 7)
    grads = emulated.ops.modfc_backward(grad_y, *NOTHING, *tensors, *options, False, 1 << position)
    assert_close(grads[position], expected(tensors, options, grad_y)[position], torch.float32, "gradient")
    assert [g.shape for i, g in enumerate(grads) if i != position] == [(0,)] * 4
