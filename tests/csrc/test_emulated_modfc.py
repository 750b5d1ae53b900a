"""modfc's CUDA kernels on the emulator, against the reference in float64, at sizes of several tiles and none."""

import pytest
import torch

from cips3d_ext import reference
from cips3d_ext.testing import assert_close, relative_error

from ._modes import every_mode

# Largest error of float32 products with operands of two bfloat16: 2^-17 each, and what they leave out of the product.
SPLIT_OPERANDS = 2.0**-14
ALL_GRADIENTS = 0b1111111
NOTHING = (torch.empty(0), torch.empty(0))  # the CUDA forward keeps nothing for its backward
OPTION_NAMES = ("scale", "style_offset", "demodulate", "eps", "activation", "alpha", "gain", "clamp")
# Behind these options a call has the precision and channels_first.
CIPS3D = (1.0, 1.0, True, 1e-8, "lrelu", 0.2, 1.0, None)
TO_RGB = (0.2, 0.0, False, 1e-8, "linear", 0.2, 1.0, 1.5)
SMOOTH = (1.0, 1.0, True, 1e-8, "sin", 0.2, 1.0, None)  # rounded operands cannot move an element across a kink
SINE = (0.7, 1.0, True, 1e-3, "sin", 0.2, 1.4, 1.0)
COLOURS = 3
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


def inputs(sizes, dtype, noise="full", colours=COLOURS):
    """x, weight, style, bias, noise, skip, to_rgb."""
    B, N, I, O = sizes
    generator = torch.Generator().manual_seed(sum(sizes))
    shapes = [(B, N, I), (O, I), (B, I), (O,), (B, N, 1) if noise == "expanded" else (B, N, O)]
    shapes += [(B, N, O), (colours, O)]
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    tensors[1] /= max(I, 1) ** 0.5
    tensors[6] /= max(O, 1) ** 0.5
    tensors = [t.to(dtype) for t in tensors]
    tensors[4] = tensors[4].expand(B, N, O)
    return tensors


def cotangents(sizes, dtype, colours=COLOURS):
    """grad_y [B,N,O] and grad_rgb [B,N,K], the same in every run: a sum may cancel to much less than its terms, and
    beside such a sum no rounding of the terms is small."""
    generator = torch.Generator().manual_seed(sum(sizes) + 1)
    shapes = [(*sizes[:2], sizes[3]), (*sizes[:2], colours)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def expected(tensors, options, grads=None):
    """y and rgb, or all gradients of those that have one in `grads`, by the reference in float64."""
    wide = [None if t is None else t.double().requires_grad_() for t in tensors]
    results = reference.modfc_with_rgb(*wide, **dict(zip(OPTION_NAMES, options, strict=True)))
    if grads is None:
        return [result.detach() for result in results]
    pairs = [(result, grad.double()) for result, grad in zip(results, grads, strict=True) if grad is not None]
    leaves = [t for t in wide if t is not None]
    return torch.autograd.grad([r for r, _ in pairs], leaves, [g for _, g in pairs], materialize_grads=True)


def check(actual, wanted, dtype, reduced, what):
    if reduced:
        assert relative_error(actual, wanted) < SPLIT_OPERANDS, what
    else:
        assert_close(actual, wanted, dtype, what)


def backward_arguments(emulated, tensors, options, reduced, grads):
    """Of modfc_backward, without the mask; y as forward gives it."""
    y = emulated.ops.modfc(*tensors, *options, reduced, False, "")[0]
    return (*grads, y, *NOTHING, *tensors, *options, reduced, False)


@every_mode
@pytest.mark.parametrize("sizes", SIZES + EMPTY, ids=str)
def test_forward(emulated, sizes, dtype, reduced):
    tensors = inputs(sizes, dtype)
    y, rgb, *nothing_kept = emulated.in_all_schedules(emulated.ops.modfc, *tensors, *SMOOTH, reduced, False, "")
    assert all(kept.numel() == 0 for kept in nothing_kept)
    for name, result, wanted in zip(("y", "rgb"), (y, rgb), expected(tensors, SMOOTH), strict=True):
        assert result.dtype == dtype
        check(result, wanted, dtype, reduced, name)


@every_mode
@pytest.mark.parametrize("sizes", SIZES + EMPTY, ids=str)
def test_backward(emulated, sizes, dtype, reduced):
    tensors, grads = inputs(sizes, dtype), cotangents(sizes, dtype)
    call = backward_arguments(emulated, tensors, SMOOTH, reduced, grads)
    found = emulated.in_all_schedules(emulated.ops.modfc_backward, *call, ALL_GRADIENTS)
    for grad, wanted in zip(found, expected(tensors, SMOOTH, grads), strict=True):
        assert grad.dtype == dtype
        check(grad, wanted, dtype, reduced, "gradient")


@every_mode
@pytest.mark.parametrize("sizes", [(3, 70, 136, 200), (2, 5, 3, 35)], ids=str)
def test_neither_skip_nor_colours(emulated, sizes, dtype, reduced):
    tensors, grads = inputs(sizes, dtype), [cotangents(sizes, dtype)[0], None]
    tensors[5:] = [None, None]
    y, rgb, *_ = emulated.in_all_schedules(emulated.ops.modfc, *tensors, *SMOOTH, reduced, False, "")
    assert rgb.shape == (0,)
    check(y, expected(tensors, SMOOTH)[0], dtype, reduced, "y")
    call = (*grads, None, *NOTHING, *tensors, *SMOOTH, reduced, False, ALL_GRADIENTS)
    *found, grad_skip, grad_to_rgb = emulated.in_all_schedules(emulated.ops.modfc_backward, *call)
    assert grad_skip.shape == grad_to_rgb.shape == (0,)
    for grad, wanted in zip(found, expected(tensors, SMOOTH, grads), strict=True):
        check(grad, wanted, dtype, reduced, "gradient")


@pytest.mark.parametrize("used", [(True, True), (False, True), (True, False)], ids=["both", "rgb", "y"])
@pytest.mark.parametrize("colours", [1, 2, 4])
def test_colours_and_results_that_nobody_used(emulated, colours, used):
    sizes = (3, 70, 19, 131)
    tensors = inputs(sizes, torch.float32, colours=colours)
    results = emulated.ops.modfc(*tensors, *SMOOTH, False, False, "")[:2]
    for result, wanted in zip(results, expected(tensors, SMOOTH), strict=True):
        assert_close(result, wanted, torch.float32, "result")
    grads = [g if u else None for g, u in zip(cotangents(sizes, torch.float32, colours), used, strict=True)]
    call = backward_arguments(emulated, tensors, SMOOTH, False, grads)
    found = emulated.in_all_schedules(emulated.ops.modfc_backward, *call, ALL_GRADIENTS)
    for grad, wanted in zip(found, expected(tensors, SMOOTH, grads), strict=True):
        assert_close(grad, wanted, torch.float32, "gradient")


@pytest.mark.parametrize("options", [TO_RGB, SINE], ids=["to_rgb", "sine"])
def test_options_and_expanded_noise(emulated, options):
    tensors = inputs((2, 9, 6, 7), torch.float32, noise="expanded")
    assert tensors[4].stride(2) == 0
    results = emulated.ops.modfc(*tensors, *options, False, False, "")[:2]
    for result, wanted in zip(results, expected(tensors, options), strict=True):
        assert_close(result, wanted, torch.float32, "result")
    grads = [torch.randn(2, 9, 7), torch.randn(2, 9, COLOURS)]
    call = backward_arguments(emulated, tensors, options, False, grads)
    found = emulated.ops.modfc_backward(*call, ALL_GRADIENTS)
    for grad, wanted in zip(found, expected(tensors, options, grads), strict=True):
        assert_close(grad, wanted, torch.float32, "gradient")


@pytest.mark.parametrize("position", range(7))
@pytest.mark.parametrize("options", [CIPS3D, TO_RGB], ids=["cips3d", "to_rgb"])
def test_one_gradient_alone(emulated, options, position):
    tensors = inputs((2, 5, 3, 7), torch.float32)
    grads = [torch.randn(2, 5, 7), torch.randn(2, 5, COLOURS)]
    call = backward_arguments(emulated, tensors, options, False, grads)
    found = emulated.ops.modfc_backward(*call, 1 << position)
    assert_close(found[position], expected(tensors, options, grads)[position], torch.float32, "gradient")
    assert [g.shape for i, g in enumerate(found) if i != position] == [(0,)] * 6


@pytest.mark.parametrize("sizes", [(3, 70, 36, 20), (2, 0, 4, 4)], ids=str)
def test_channels_first_is_the_same_of_transposed_tensors(emulated, sizes):
    x, weight, style, bias, noise, skip, _ = inputs(sizes, torch.float32, noise="expanded")
    rows = (x, weight, style, bias, noise, skip, None)
    channels = (x.mT.contiguous(), weight, style, bias, noise.mT, skip.mT.contiguous(), None)
    grad = cotangents(sizes, torch.float32)[0]
    found, wanted = (
        (
            emulated.ops.modfc(*tensors, *SMOOTH, False, first, "")[0],
            *emulated.ops.modfc_backward(g, None, None, *NOTHING, *tensors, *SMOOTH, False, first, ALL_GRADIENTS)[:6],
        )
        for tensors, g, first in ((channels, grad.mT.contiguous(), True), (rows, grad, False))
    )
    for index, (got, want) in enumerate(zip(found, wanted, strict=True)):
        assert got.is_contiguous() and torch.equal(got, want.mT if index in (0, 1, 5, 6) else want)
