"""film_sine's CPU kernels at each SIMD level: awkward sizes, every dtype, absent inputs, threads, huge phases."""

import pytest
import torch

from cips3d_ext import reference

from ._compare import TOLERANCE, assert_close, check_op

# (B, N, I, O): odd channel counts, one point a sample, samples across tiles of 96 rows, nothing at all.
SIZES = [
    (2, 5, 3, 7),
    (1, 1, 35, 37),
    (3, 100, 37, 95),
    (200, 1, 16, 33),
    (2, 97, 95, 259),
    (0, 3, 4, 5),
    (2, 0, 4, 5),
    (2, 3, 4, 0),
    (2, 3, 0, 5),
]
NOTHING = torch.empty(0)  # kept of forward
KEEPS = ("", "linear")
OPTIONS = {"gamma_scale": 15.0, "gamma_offset": 30.0, "beta_scale": 0.25, "reduced_precision": False}


def inputs(sizes):
    B, N, I, O = sizes
    torch.manual_seed(0)
    weight = torch.randn(O, I) / max(I, 1) ** 0.5
    return [torch.randn(B, N, I), weight, torch.randn(O), torch.randn(B, O), torch.randn(B, O)]


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("sizes", SIZES)
def test_sizes(cpu_level_or_bf16, sizes, dtype, keep):
    check_op("film_sine", reference.film_sine, inputs(sizes), OPTIONS, dtype, keep)


def eager(x, weight, bias, gamma, beta):
    g = OPTIONS["gamma_scale"] * gamma + OPTIONS["gamma_offset"]
    return torch.sin(g[:, None] * (x @ weight.T + bias) + OPTIONS["beta_scale"] * beta[:, None])


def with_gradients(run, tensors, grad_y):
    leaves = [t.detach().requires_grad_() for t in tensors]
    y = run(*leaves)
    return y.detach(), *torch.autograd.grad(y, leaves, grad_y)


@pytest.mark.parametrize("keep", KEEPS)
def test_bfloat16_rounds_no_more_than_it_says(cpu_level_or_bf16, keep):
    """Each number within its own bound, at every level; and nearer to float64 than eager PyTorch's bfloat16.

    u = 2^-8 is bfloat16's largest rounding error. The result is rounded: u |result|. Of the backward's products one
    operand may be rounded, grad_linear: u times the sum of the products' magnitudes. Forward's operands are bfloat16
    as they come, so no rounding is multiplied by the frequency, up to 75 here; float32's are, 2^-24 each.
    """
    tensors = [t.bfloat16() for t in inputs((2, 97, 96, 70))]
    x, weight, bias, gamma, beta = (t.double() for t in tensors)
    grad_y = torch.randn(2, 97, 70).bfloat16()
    wanted = with_gradients(eager, (x, weight, bias, gamma, beta), grad_y.double())
    y, linear = torch.ops.cips3d_ext.film_sine(*tensors, *OPTIONS.values(), keep)
    grads = torch.ops.cips3d_ext.film_sine_backward(grad_y, linear, *tensors, *OPTIONS.values(), 31)

    g = (OPTIONS["gamma_scale"] * gamma + OPTIONS["gamma_offset"])[:, None]
    phase = g * (x @ weight.T + bias) + OPTIONS["beta_scale"] * beta[:, None]
    grad_linear = (grad_y * phase.cos() * g).abs()
    u, in_float32 = 2**-8, 2e-5  # the latter of the sums of magnitudes: _compare.TOLERANCE[float32]
    products = {1: grad_linear @ weight.abs(), 2: (grad_linear.mT @ x.abs()).sum(0)}
    for index, (found, exact) in enumerate(zip((y, *grads), wanted, strict=True)):
        sums = products.get(index, exact.abs().max())
        rounded = u if index in products else 0
        assert ((found - exact).abs() <= u * exact.abs() + (rounded + in_float32) * sums).all()

    for ours, exact, theirs in zip((y, *grads), wanted, with_gradients(eager, tensors, grad_y), strict=True):
        assert (ours - exact).norm() < (theirs - exact).norm()


@pytest.mark.parametrize("keep", KEEPS)
def test_which_level_multiplies_bfloat16(cpu_level_or_bf16, keep):
    """g is 1 + 2^-10 and 1: with these, of weights 1 and -1, grad_x is 2^-10, and 0 if they are bfloat16."""
    tensors = [torch.tensor(t).bfloat16() for t in ([[[0.0]]], [[1.0], [-1.0]], [0.0, 0.0], [[1.0, 0.0]], [[0.0, 0.0]])]
    options = (2**-10, 1.0, 1.0, False)
    linear = torch.ops.cips3d_ext.film_sine(*tensors, *options, keep)[1]
    grad_y = torch.ones(1, 1, 2).bfloat16()
    grad_x = torch.ops.cips3d_ext.film_sine_backward(grad_y, linear, *tensors, *options, 1)[0]
    assert grad_x.item() == (0 if cpu_level_or_bf16 == "avx512bf16" else 2**-10)


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("absent", [(2,), (3,), (4,), (2, 3, 4)])
def test_absent_inputs(cpu_level_or_bf16, absent, keep):
    tensors = [None if index in absent else t for index, t in enumerate(inputs((3, 40, 19, 21)))]
    check_op("film_sine", reference.film_sine, tensors, OPTIONS, torch.float32, keep)


def test_what_is_kept_is_the_linear_map(cpu_level_or_bf16):
    x, weight, bias, gamma, beta = inputs((2, 5, 3, 7))
    linear = torch.ops.cips3d_ext.film_sine(x, weight, bias, gamma, beta, *OPTIONS.values(), "linear")[1]
    assert_close(linear, x.double() @ weight.double().T + bias, torch.float32, "linear")
    assert torch.ops.cips3d_ext.film_sine(x, weight, bias, gamma, beta, *OPTIONS.values(), "")[1].shape == (0,)


@pytest.mark.parametrize("keep", KEEPS)
def test_only_the_wanted_gradients(cpu_level_or_bf16, keep):
    tensors = inputs((2, 50, 6, 9))
    backward = torch.ops.cips3d_ext.film_sine_backward
    grad_y = torch.randn(2, 50, 9)
    linear = torch.ops.cips3d_ext.film_sine(*tensors, *OPTIONS.values(), keep)[1]
    every = backward(grad_y, linear, *tensors, *OPTIONS.values(), 31)
    for index in range(5):
        grads = backward(grad_y, linear, *tensors, *OPTIONS.values(), 1 << index)
        assert [grad.shape == (0,) for grad in grads] == [i != index for i in range(5)]
        assert torch.equal(grads[index], every[index])


def test_deterministic_and_independent_of_threads(cpu_level_or_bf16, one_and_two_threads):
    tensors, grad_y = inputs((3, 700, 19, 21)), torch.randn(3, 700, 21)
    results = []
    for threads in one_and_two_threads:
        torch.set_num_threads(threads)
        runs = [
            [torch.ops.cips3d_ext.film_sine(*tensors, *OPTIONS.values(), "")[0]]
            + list(torch.ops.cips3d_ext.film_sine_backward(grad_y, NOTHING, *tensors, *OPTIONS.values(), 31))
            for _ in range(2)
        ]
        assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
        results.append(runs[0])
    for index, (one, two) in enumerate(zip(*results, strict=True)):
        if index == 2:  # grad_weight adds up one partial sum a thread
            assert_close(two, one.double(), torch.float32, "grad_weight")
        else:
            assert torch.equal(one, two)


def test_large_outputs(cpu_level_or_bf16):
    """From 4 MB on they are written past the caches: the same bits as sample by sample, which is below that."""
    x, weight, bias, gamma, beta = inputs((2, 8200, 64, 64))
    grad_y = torch.randn(2, 8200, 64)
    options = OPTIONS.values()

    def run(at):
        tensors = (x[at], weight, bias, gamma[at], beta[at])
        y, linear = torch.ops.cips3d_ext.film_sine(*tensors, *options, "linear")
        return y, linear, torch.ops.cips3d_ext.film_sine_backward(grad_y[at], linear, *tensors, *options, 1)[0]

    for together, first, second in zip(run(slice(2)), run(slice(1)), run(slice(1, 2)), strict=True):
        assert torch.equal(together, torch.cat([first, second]))


def test_sine_of_large_and_special_phases(cpu_level_or_bf16):
    phases = torch.tensor([1.5e4, 2.9e4, 9.9e5, 1.1e6, 3.0e8, float("inf"), float("-inf"), float("nan"), 0.0])
    one = torch.ones(1, 1)
    call = (phases.reshape(1, -1, 1), one, None, None, None, 1.0, 0.0, 1.0, False, "")
    found = torch.ops.cips3d_ext.film_sine(*call)[0]
    wanted = torch.sin(phases.double()).float().reshape(1, -1, 1)
    # 2.1e-7: the vector sine without a fused multiply-add (csrc/common/simd_math.h)
    torch.testing.assert_close(found, wanted, rtol=0, atol=2.1e-7, equal_nan=True)
