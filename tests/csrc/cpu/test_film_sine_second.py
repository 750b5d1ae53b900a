"""film_sine's second derivatives on the CPU at each SIMD level, against the reference's backward in float64."""

import pytest
import torch

from cips3d_ext import reference

from ._compare import BFLOAT16_PRODUCTS_TOLERANCE, TOLERANCE, assert_close

# As in test_film_sine.py: odd channel counts, one point a sample, samples across tiles of 96 rows, nothing at all.
SIZES = [(2, 5, 3, 7), (3, 100, 37, 95), (200, 1, 16, 33), (2, 97, 95, 259), (0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5)]
KEEPS = ("", "linear")
# Frequencies of 0 to 4: a phase's rounding is not multiplied by much. Those of the released models: test_film_sine.py.
OPTIONS = {"gamma_scale": 0.5, "gamma_offset": 2.0, "beta_scale": 0.25, "reduced_precision": False}
GRADIENTS = ("grad_y", "x", "weight", "bias", "gamma", "beta")
DIRECTIONS = (0, 3, 4)  # positions of x, gamma and beta among the inputs
BIAS, GAMMA, BETA = 2, 3, 4


def sample(sizes, dtype, absent=()):
    """The direction of each of DIRECTIONS, grad_y and the inputs."""
    B, N, I, O = sizes
    generator = torch.Generator().manual_seed(0)
    shapes = [(B, N, I), (B, O), (B, O), (B, N, O), (B, N, I), (O, I), (O,), (B, O), (B, O)]
    tensors = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    tensors[5] = tensors[5] / max(I, 1) ** 0.5
    missing = {4 + index for index in absent} | {DIRECTIONS.index(index) for index in absent if index in DIRECTIONS}
    tensors = [None if index in missing else t for index, t in enumerate(tensors)]
    return tensors[:3], tensors[3], tensors[4:]


def second(directions, grad_y, tensors, keep, mask=0b111111):
    linear = torch.ops.cips3d_ext.film_sine(*tensors, *OPTIONS.values(), keep)[1]
    return torch.ops.cips3d_ext.film_sine_second(*directions, grad_y, linear, *tensors, *OPTIONS.values(), mask)


def check(directions, grad_y, tensors, keep):
    """Against autograd through the reference's backward."""
    leaves = [None if t is None else t.double().requires_grad_() for t in (grad_y, *tensors)]
    first = reference.film_sine_backward(*leaves, **OPTIONS)
    pairs = [(first[i], d.double()) for i, d in zip(DIRECTIONS, directions, strict=True) if d is not None]
    present = [leaf for leaf in leaves if leaf is not None]
    outputs, cotangents = zip(*pairs, strict=True)
    wanted = iter(torch.autograd.grad(outputs, present, cotangents, allow_unused=True, materialize_grads=True))
    on_bfloat16 = grad_y.dtype == torch.bfloat16
    tolerance = BFLOAT16_PRODUCTS_TOLERANCE if on_bfloat16 else TOLERANCE[grad_y.dtype]
    for name, leaf, found in zip(GRADIENTS, leaves, second(directions, grad_y, tensors, keep), strict=True):
        if leaf is None:
            assert found.shape == (0,)
        else:
            assert_close(found, next(wanted), grad_y.dtype, f"gradient of {name}", tolerance)


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("sizes", SIZES)
def test_sizes(cpu_level_or_bf16, sizes, dtype, keep):
    check(*sample(sizes, dtype), keep)


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("absent", [(BIAS,), (GAMMA,), (BETA,), (BIAS, GAMMA, BETA)])
def test_absent_inputs(cpu_level_or_bf16, absent, keep):
    check(*sample((3, 40, 19, 21), torch.float32, absent), keep)


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("given", range(3))
def test_one_direction_alone(cpu_level_or_bf16, given, keep):
    directions, grad_y, tensors = sample((3, 40, 19, 21), torch.float32)
    check([d if index == given else None for index, d in enumerate(directions)], grad_y, tensors, keep)


@pytest.mark.parametrize("keep", KEEPS)
def test_only_the_wanted_gradients(cpu_level_or_bf16, keep):
    call = sample((2, 50, 6, 9), torch.float32)
    every = second(*call, keep)
    for index in range(len(GRADIENTS)):
        grads = second(*call, keep, 1 << index)
        assert [grad.shape == (0,) for grad in grads] == [i != index for i in range(len(GRADIENTS))]
        assert torch.equal(grads[index], every[index])


def test_deterministic_and_independent_of_threads(cpu_level_or_bf16, one_and_two_threads):
    call, results = sample((3, 700, 19, 21), torch.float32), []
    for threads in one_and_two_threads:
        torch.set_num_threads(threads)
        runs = [second(*call, "") for _ in range(2)]
        assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
        results.append(runs[0])
    for name, one, two in zip(GRADIENTS, *results, strict=True):
        if name == "weight":  # it adds up one partial sum a thread
            assert_close(two, one.double(), torch.float32, name)
        else:
            assert torch.equal(one, two)
