"""volume_render's reference: forward against float64 loops, closed-form backward against autograd, in both orders."""

import math

import pytest
import torch
from torch import Tensor

from cips3d_ext.reference import volume_render, volume_render_backward

B, R, S, C = 2, 3, 5, 4
INPUTS = ("density", "features", "depths", "noise", "beta", "ray_norm")

# What the public code of other 3D GANs computes, and every option with each of its values at least once.
OPTIONS = {
    "cips3d": {},
    "cips3d_last_back": {"last_back": True},
    "pigan_softplus_white": {"activation": "softplus", "white_channels": -1},
    "eg3d": {
        "rule": "midpoint",
        "activation": "softplus",
        "shift": -1.0,
        "depth_mode": "expected",
        "white_channels": -1,
        "feature_scale": 2.0,
        "feature_shift": -1.0,
    },
    "volumegan_far": {"far": 1.2, "activation": "softplus", "shift": -1.0},
    "volumegan_no_dist": {"unit_delta": True},
    "stylenerf": {"norm_last": False, "last_alpha": 1.0},
    "stylenerf_background": {"norm_last": False, "last_delta": 0.0},
    "stylesdf": {"activation": "sdf", "beta_value": 0.3, "last_back": True},
    "epigraf": {"last_delta": 1e-3, "activation": "softplus", "beta_value": 2.0, "white_channels": 2},
    "given_sigma": {"activation": "none", "last_delta": 0.4, "trans_eps": 0.0},
    "leaky": {"trans_eps": 0.1, "last_alpha": 0.3, "far": 1.5, "last_back": True},
    "expected_last_back": {"depth_mode": "expected", "last_back": True, "norm_last": False, "last_delta": 0.7},
    "midpoint_sdf": {
        "rule": "midpoint",
        "activation": "sdf",
        "last_back": True,
        "last_alpha": 0.6,
        "white_channels": 1,
    },
    "midpoint_unit": {"rule": "midpoint", "unit_delta": True, "depth_mode": "expected"},
    "unit_finite": {"unit_delta": True, "norm_last": False, "trans_eps": 1e-3},
}
# Which of noise, beta and ray_norm are given.
PRESENT = [(False, False, False), (True, True, True), (False, False, True)]


def sample(
    noise: bool, beta: bool, ray_norm: bool, *, samples: int = S, dtype: torch.dtype = torch.float64
) -> dict[str, Tensor | None]:
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    depths = torch.rand(B, R, samples, generator=generator, dtype=torch.float64).sort(-1).values
    given = {
        "density": 2 * normal(B, R, samples) + 1,
        "features": normal(B, R, samples, C),
        "depths": depths,
        "noise": normal(B, R, samples) if noise else None,
        "beta": torch.tensor([0.7], dtype=torch.float64) if beta else None,
        "ray_norm": 1 + 0.3 * normal(B, R).abs() if ray_norm else None,
    }
    return {name: None if value is None else value.to(dtype) for name, value in given.items()}


def activate(u: float, activation: str, beta: float) -> float:
    if activation == "relu":
        return max(u, 0.0)
    if activation == "softplus":
        return math.log1p(math.exp(beta * u)) / beta
    if activation == "sdf":
        return 1 / (1 + math.exp(u / beta)) / beta
    return u


def render_ray(
    density, features, depths, noise, beta, norm, *, activation="relu", shift=0.0, beta_value=1.0, rule="left",
    last_delta=1e10, far=None, unit_delta=False, norm_last=True, last_alpha=None, trans_eps=1e-10, last_back=False,
    white_channels=0, depth_mode="sum", feature_scale=1.0, feature_shift=0.0,
):  # fmt: skip
    """One ray from lists of numbers; features are rows of C numbers."""
    channels = len(features[0])
    u = [value + extra for value, extra in zip(density, noise, strict=True)]
    z, f = depths, features
    delta = [(b - a) * norm for a, b in zip(z[:-1], z[1:], strict=True)]
    if rule == "midpoint":
        u = [(a + b) / 2 for a, b in zip(u[:-1], u[1:], strict=True)]
        z = [(a + b) / 2 for a, b in zip(z[:-1], z[1:], strict=True)]
        f = [[(p + q) / 2 for p, q in zip(a, b, strict=True)] for a, b in zip(f[:-1], f[1:], strict=True)]
    else:
        last = last_delta if far is None else far - z[-1]
        delta.append(last * norm if norm_last else last)
    if unit_delta:
        delta = [norm] * len(delta)
        if rule == "left" and not norm_last:
            delta[-1] = 1.0

    weights, trans, before_last = [], 1.0, 1.0
    for i, (value, step) in enumerate(zip(u, delta, strict=True)):
        sigma = activate(value + shift, activation, beta if beta is not None else beta_value)
        alpha = 1 - math.exp(-step * sigma)
        if last_alpha is not None and i == len(delta) - 1:
            alpha = last_alpha
        weights.append(alpha * trans)
        before_last = trans
        trans *= 1 - alpha + trans_eps
    accumulation = sum(weights)
    if last_back:
        weights[-1] += 1 - accumulation
    depth = sum(w * value for w, value in zip(weights, z, strict=True))
    if depth_mode == "expected":
        depth = depth / sum(weights) if sum(weights) else math.inf
    feature = [sum(w * row[c] for w, row in zip(weights, f, strict=True)) for c in range(channels)]
    white = channels if white_channels == -1 else white_channels
    feature = [value + (1 - accumulation if c < white else 0.0) for c, value in enumerate(feature)]
    return [feature_scale * v + feature_shift for v in feature], depth, weights, before_last, accumulation


def volume_render_loops(density, features, depths, noise, beta, ray_norm, **options):
    noise = torch.zeros_like(density) if noise is None else noise
    rays = [
        render_ray(
            *(t[b, r].tolist() for t in (density, features, depths, noise)),
            None if beta is None else beta.item(),
            1.0 if ray_norm is None else ray_norm[b, r].item(),
            **options,
        )
        for b in range(density.shape[0])
        for r in range(density.shape[1])
    ]
    columns = (torch.tensor(column, dtype=torch.float64) for column in zip(*rays, strict=True))
    return [column.reshape(*density.shape[:2], *column.shape[1:]) for column in columns]


def gradients(outputs, sources, grad_outputs, create_graph=False):
    """torch.autograd.grad where some outputs may be constants and some sources unused (their gradient is 0)."""
    live = [(t, g) for t, g in zip(outputs, grad_outputs, strict=True) if t.requires_grad]
    return torch.autograd.grad(
        *([t for t, _ in live], sources, [g for _, g in live]),
        create_graph=create_graph,
        allow_unused=True,
        materialize_grads=True,
    )


def assert_both_orders_agree(inputs: dict[str, Tensor | None], options: dict) -> None:
    """The closed form against autograd of the forward, and the same one order higher."""
    given = {name: t.requires_grad_() for name, t in inputs.items() if t is not None}
    outputs = volume_render(**inputs, **options)
    grads = [torch.randn_like(t).requires_grad_() for t in outputs]
    expected = dict(zip(given, gradients(outputs, list(given.values()), grads, create_graph=True), strict=True))
    names = [name for name in INPUTS if name != "noise"]
    found = dict(zip(names, volume_render_backward(*grads, **inputs, **options), strict=True))

    assert {name for name, g in found.items() if g is not None} == set(given) - {"noise"}
    if "noise" in given:
        torch.testing.assert_close(expected.pop("noise"), found["density"], rtol=1e-9, atol=1e-9)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=1e-9)

    probes = [torch.randn_like(g) for g in expected.values()]
    sources = [*grads, *given.values()]
    second_expected = gradients(list(expected.values()), sources, probes)
    second_found = gradients([found[name] for name in expected], sources, probes)
    for got, want in zip(second_found, second_expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("present", PRESENT, ids=str)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_backward_is_autograd_in_both_orders(options, present):
    assert_both_orders_agree(sample(*present), options)


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("name", ["cips3d_last_back", "eg3d", "volumegan_far", "leaky", "expected_last_back"])
def test_one_and_two_samples(name, samples):
    options = OPTIONS[name]
    if samples == 1 and options.get("rule") == "midpoint":
        weights = volume_render(**sample(True, True, True, samples=1), **options)[2]
        assert weights.shape == (B, R, 0)
        return
    inputs = sample(True, True, True, samples=samples)
    for got, want in zip(volume_render(**inputs, **options), volume_render_loops(**inputs, **options), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    assert_both_orders_agree(inputs, options)


def test_without_features():
    inputs = sample(False, False, False)
    full = volume_render(**inputs)
    inputs["features"] = None
    feature, *rest = volume_render(**inputs)
    assert feature.shape == (B, R, 0)
    assert all(torch.equal(got, want) for got, want in zip(rest, full[1:], strict=True))
    assert_both_orders_agree(inputs, {"far": 1.3})


def test_absent_output_gradients_count_as_zero():
    inputs = sample(True, True, True)
    outputs = volume_render(**inputs)
    for wanted in range(len(outputs)):
        grads = [torch.randn_like(t) if i == wanted else None for i, t in enumerate(outputs)]
        filled = [torch.zeros_like(t) if g is None else g for g, t in zip(grads, outputs, strict=True)]
        options = {"activation": "softplus", "last_back": True, "far": 2.0}
        found = volume_render_backward(*grads, **inputs, **options)
        expected = volume_render_backward(*filled, **inputs, **options)
        for got, want in zip(found, expected, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-13, atol=1e-13)


def test_grad_mask_selects():
    inputs = sample(True, True, True)
    grads = [torch.ones_like(t) for t in volume_render(**inputs)]
    found = volume_render_backward(*grads, **inputs, grad_mask=0b01001)
    assert [g is not None for g in found] == [True, False, False, True, False]


@pytest.mark.parametrize("last_delta, zero", [(1e10, True), (1e9, True), (0.5, False)])
def test_the_gradient_of_an_infinite_last_interval_is_zero(last_delta, zero):
    inputs = {name: t for name, t in sample(False, False, False).items() if t is not None}
    inputs["density"] = inputs["density"].abs().requires_grad_()
    accumulation = volume_render(**inputs, last_delta=last_delta)[4]
    (by_autograd,) = torch.autograd.grad(accumulation.sum(), inputs["density"])
    closed = volume_render_backward(None, None, None, None, torch.ones(B, R).double(), **inputs, last_delta=last_delta)
    for grad in (by_autograd, closed[0]):
        assert bool((grad[..., -1] == 0).all()) is zero
        assert bool((grad[..., :-1] != 0).any())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_empty_and_opaque_rays_are_exact(dtype):
    density = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 6e4, 3.0], [-1.0, 0.0, 1.0]]], dtype=dtype)
    depths = torch.tensor([1.0, 2.0, 3.0], dtype=dtype).expand(1, 3, 3).contiguous()
    features = torch.ones(1, 3, 3, 2, dtype=dtype)
    density.requires_grad_()
    feature, depth, weights, trans, acc = volume_render(density, features, depths, depth_mode="expected")
    assert weights[0, 0].tolist() == [0.0, 0.0, 0.0]
    assert depth[0].tolist() == [math.inf, 2.0, 3.0]
    assert weights[0, 1, :2].tolist() == [0.0, 1.0]
    assert weights[0, 2].tolist() == [0.0, 0.0, 1.0]
    assert acc[0].tolist() == [0.0, 1.0, 1.0] and feature[0, :, 0].tolist() == [0.0, 1.0, 1.0]
    grads = torch.autograd.grad([feature.sum(), depth[0, 1:].sum(), weights.sum(), trans.sum()], density)
    ones = [torch.ones_like(t) for t in (feature, depth, weights, trans, acc)]
    closed = volume_render_backward(*ones, density, features, depths, depth_mode="expected")
    assert all(bool(g.isfinite().all()) for g in (*grads, *closed[:3]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["cips3d_last_back", "eg3d", "stylesdf"])
def test_half_types_compute_in_float32_and_round_once(name, dtype):
    inputs = sample(True, True, True, dtype=dtype)
    wide = {key: t.float() for key, t in inputs.items()}
    options = OPTIONS[name]
    outputs, expected = volume_render(**inputs, **options), volume_render(**wide, **options)
    assert all(torch.equal(got, want.to(dtype)) for got, want in zip(outputs, expected, strict=True))
    grads = [torch.ones_like(t) for t in outputs]
    found = volume_render_backward(*grads, **inputs, **options)
    expected = volume_render_backward(*(g.float() for g in grads), **wide, **options)
    assert all(torch.equal(got, want.to(dtype)) for got, want in zip(found, expected, strict=True))


def test_float32_keeps_the_digits_of_small_and_large_densities():
    inputs = sample(False, False, False)
    inputs["density"] = inputs["density"] * torch.logspace(-6, 4, S, dtype=torch.float64)
    exact = volume_render(**inputs)
    single = volume_render(**{name: None if t is None else t.float() for name, t in inputs.items()})
    # a few roundings of float32 (6e-8 each) along the five samples
    for got, want in zip(single, exact, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(single[2][..., 0].double(), exact[2][..., 0], rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", [(0, R), (B, 0)])
@pytest.mark.parametrize("rule", ["left", "midpoint"])
def test_no_rays(shape, rule):
    inputs = (torch.rand(*shape, S), torch.rand(*shape, S, C), torch.rand(*shape, S))
    outputs = volume_render(*inputs, rule=rule)
    count = S if rule == "left" else S - 1
    assert [t.shape for t in outputs] == [(*shape, C), shape, (*shape, count), shape, shape]
    grads = volume_render_backward(*(torch.ones_like(t) for t in outputs), *inputs, rule=rule)
    assert [g.shape for g in grads[:3]] == [t.shape for t in inputs]


@pytest.mark.parametrize("wrong", [{"rule": "right"}, {"activation": "exp"}], ids=str)
def test_unknown_choices_are_named(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"volume_render: {name} must be .*, got '{value}'"):
        volume_render(**sample(False, False, False), **wrong)
