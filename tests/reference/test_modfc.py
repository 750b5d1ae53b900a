"""modfc's reference: forward against float64 loops, closed-form backward against autograd, first and second order."""

import math

import pytest
import torch
from torch import Tensor

from cips3d_ext.reference import modfc, modfc_backward, modfc_with_rgb
from cips3d_ext.reference._modulated_map import PerSampleMap, ScaledMap, prefer_scaled_form

B, N, I, O, K = 2, 3, 5, 4, 3
# |y| of these inputs lies on both sides of the clamp.
OPTIONS = [
    {},
    {"demodulate": False},
    {"scale": 0.3, "style_offset": 1.0, "eps": 1e-2},
    {"demodulate": False, "scale": 0.3, "style_offset": 1.0},
    {"activation": "relu", "gain": 1.7},
    {"activation": "lrelu", "alpha": 0.1, "gain": math.sqrt(2)},
    {"activation": "lrelu", "clamp": 0.5, "style_offset": 1.0},
    {"activation": "sin", "gain": 2.0, "clamp": 1.5},
    {"clamp": 0.8, "demodulate": False},
]


def sample(
    bias: bool = True, noise: bool = True, skip: bool = True, dtype: torch.dtype = torch.float64
) -> list[Tensor | None]:
    """x, weight, style, bias, noise, skip."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(B, N, I), (O, I), (B, I), (O,) if bias else None, (B, N, O) if noise else None]
    shapes.append((B, N, O) if skip else None)
    return [
        None if shape is None else torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        for shape in shapes
    ]


def modfc_loops(
    x, weight, style, bias, noise, skip, scale=1.0, style_offset=0.0, demodulate=True, eps=1e-8, activation="linear",
    alpha=0.2, gain=1.0, clamp=math.inf,
):  # fmt: skip
    act = {
        "linear": lambda v: v,
        "relu": lambda v: max(v, 0.0),
        "lrelu": lambda v: v if v > 0 else alpha * v,
        "sin": math.sin,
    }[activation]
    y = torch.zeros(B, N, O, dtype=torch.float64)
    for b in range(B):
        for o in range(O):
            row = [scale * float(weight[o, i]) * (float(style[b, i]) + style_offset) for i in range(I)]
            d = 1 / math.sqrt(sum(w * w for w in row) + eps) if demodulate else 1.0
            for n in range(N):
                v = d * sum(row[i] * float(x[b, n, i]) for i in range(I))
                v += 0.0 if noise is None else float(noise[b, n, o])
                v += 0.0 if bias is None else float(bias[o])
                y[b, n, o] = min(max(gain * act(v), -clamp), clamp)
                y[b, n, o] += 0.0 if skip is None else float(skip[b, n, o])
    return y


def colours() -> Tensor:
    return torch.randn(K, O, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("bias, noise", [(True, True), (False, False), (True, False), (False, True)])
def test_forward_is_the_formula(options, bias, noise):
    tensors = sample(bias, noise, skip=noise)
    torch.testing.assert_close(modfc(*tensors, **options), modfc_loops(*tensors, **options), rtol=1e-12, atol=1e-13)


def test_rgb_is_the_formula():
    tensors, to_rgb = sample(), colours()
    y, rgb = modfc_with_rgb(*tensors, to_rgb, activation="lrelu", clamp=0.5)
    expected = modfc_loops(*tensors, activation="lrelu", clamp=0.5)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-13)
    assert rgb.shape == (B, N, K)
    for b in range(B):
        for n in range(N):
            for k in range(K):
                colour = sum(float(expected[b, n, o]) * float(to_rgb[k, o]) for o in range(O))
                assert abs(float(rgb[b, n, k]) - colour) < 1e-12
    assert modfc_with_rgb(*tensors)[1].shape == (0,)


@pytest.mark.parametrize("demodulate", [True, False])
def test_both_forms_agree(demodulate):
    x, weight, style, *_ = sample()
    scaled, per_sample = (form(x, weight, style + 1.0, demodulate, 1e-8) for form in (ScaledMap, PerSampleMap))
    torch.testing.assert_close(scaled.value(), per_sample.value(), rtol=1e-12, atol=1e-13)
    grad = torch.randn_like(scaled.value())
    for of_scaled, of_per_sample in zip(scaled.gradients(grad), per_sample.gradients(grad), strict=True):
        torch.testing.assert_close(of_scaled(), of_per_sample(), rtol=1e-12, atol=1e-13)


def test_the_cost_model_takes_the_scaled_form_for_few_rows():
    assert prefer_scaled_form(1, 512, 512)
    assert prefer_scaled_form(16, 512, 512)
    assert not prefer_scaled_form(65536, 512, 512)


@pytest.mark.parametrize("rows", [3, 300])
def test_the_chosen_form_is_the_formula(rows):
    x, weight, style, *_ = sample()
    many = x.repeat(1, rows // N, 1)
    expected = modfc_loops(x, weight, style, None, None, None).repeat(1, rows // N, 1)
    assert prefer_scaled_form(rows, I, O) == (rows == 3)
    torch.testing.assert_close(modfc(many, weight, style), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("bias, noise", [(True, True), (False, False)])
def test_backward_is_autograd(options, bias, noise):
    tensors = [None if t is None else t.requires_grad_() for t in sample(bias, noise, skip=noise)]
    y = modfc(*tensors, **options)
    grad_y = torch.randn_like(y)
    expected = torch.autograd.grad(y, [t for t in tensors if t is not None], grad_y)
    *found, no_grad_to_rgb = modfc_backward(grad_y, None, *tensors, **options)
    assert no_grad_to_rgb is None
    assert [g is None for g in found] == [t is None for t in tensors]
    for got, want in zip([g for g in found if g is not None], expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("used", [(True, True), (False, True), (True, False)], ids=["both", "rgb", "y"])
@pytest.mark.parametrize("options", [OPTIONS[5], OPTIONS[6], OPTIONS[7], OPTIONS[8]], ids=str)
def test_backward_through_rgb_is_autograd(options, used):
    tensors = [t.requires_grad_() for t in [*sample(), colours()]]
    results = modfc_with_rgb(*tensors, **options)
    grads = [torch.randn_like(result) if use else None for result, use in zip(results, used, strict=True)]
    pairs = [(result, grad) for result, grad in zip(results, grads, strict=True) if grad is not None]
    outputs, cotangents = zip(*pairs, strict=True)
    expected = torch.autograd.grad(outputs, tensors, cotangents, allow_unused=True, materialize_grads=True)
    for got, want in zip(modfc_backward(*grads, *tensors, **options), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", [OPTIONS[2], OPTIONS[3], OPTIONS[5], {"activation": "sin", "gain": 2.0}], ids=str)
def test_second_order_is_autograd_of_autograd(options):
    tensors = [t.requires_grad_() for t in [*sample(), colours()]]
    results = modfc_with_rgb(*tensors, **options)
    grads = [torch.randn_like(result).requires_grad_() for result in results]
    first = torch.autograd.grad(results, tensors, grads, create_graph=True)
    probes = [torch.randn_like(g) for g in first]
    keep = {"allow_unused": True, "materialize_grads": True}
    expected = torch.autograd.grad(first, [*grads, *tensors], probes, **keep)
    closed = modfc_backward(*grads, *tensors, **options)
    found = torch.autograd.grad(closed, [*grads, *tensors], probes, **keep)
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", [OPTIONS[2], OPTIONS[6], OPTIONS[7]], ids=str)
def test_channels_first_is_the_same_of_transposed_tensors(options):
    x, weight, style, bias, noise, skip = sample()
    rows = [x, weight, style, bias, noise, skip]
    channels = [x.mT, weight, style, bias, noise.mT, skip.mT]
    y, found = modfc(*rows, **options), modfc(*channels, channels_first=True, **options)
    assert found.is_contiguous() and torch.equal(found, y.mT)
    grad = torch.randn_like(y)
    expected = modfc_backward(grad, None, *rows, **options)
    grads = modfc_backward(grad.mT, None, *channels, channels_first=True, **options)
    for index, (got, want) in enumerate(zip(grads[:6], expected[:6], strict=True)):
        assert torch.equal(got, want.mT if index in (0, 4, 5) else want)


def test_grad_mask_selects():
    grads = [torch.ones(B, N, channels, dtype=torch.float64) for channels in (O, K)]
    found = modfc_backward(*grads, *sample(), colours(), grad_mask=0b1001010)
    assert [g is not None for g in found] == [False, True, False, True, False, False, True]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_compute_in_float32_and_round_once(dtype):
    options = {"style_offset": 1.0, "activation": "lrelu"}
    tensors = [*sample(dtype=dtype), colours().to(dtype)]
    wide = [t.float() for t in tensors]
    results = modfc_with_rgb(*tensors, **options)
    for result, expected in zip(results, modfc_with_rgb(*wide, **options), strict=True):
        assert result.dtype == dtype and torch.equal(result, expected.to(dtype))
    grads = [torch.ones_like(result) for result in results]
    found = modfc_backward(*grads, *tensors, **options)
    expected = modfc_backward(*(g.float() for g in grads), *wide, **options)
    assert all(torch.equal(got, want.to(dtype)) for got, want in zip(found, expected, strict=True))


@pytest.mark.parametrize("shape", [(0, N), (B, 0), (1, 1)])
@pytest.mark.parametrize("demodulate", [True, False])
def test_empty_and_single_rows(shape, demodulate):
    x, style = torch.ones(*shape, I), torch.ones(shape[0], I)
    weight, bias = torch.ones(O, I), torch.ones(O)
    inputs = (x, weight, style, bias, None, None, torch.ones(K, O))
    y, rgb = modfc_with_rgb(*inputs, demodulate=demodulate)
    assert y.shape == (*shape, O) and rgb.shape == (*shape, K)
    found = modfc_backward(torch.ones_like(y), torch.ones_like(rgb), *inputs, demodulate=demodulate)
    assert [None if g is None else g.shape for g in found] == [None if t is None else t.shape for t in inputs]


def test_expanded_noise_and_unknown_activation():
    x, weight, style, bias, *_ = sample()
    noise = torch.randn(B, N, 1, dtype=torch.float64)
    expected = modfc(x, weight, style, bias, noise.expand(B, N, O).contiguous())
    torch.testing.assert_close(modfc(x, weight, style, bias, noise), expected, rtol=0, atol=0)
    with pytest.raises(ValueError, match="activation must be linear, relu, lrelu or sin, got 'tanh'"):
        modfc(x, weight, style, activation="tanh")
