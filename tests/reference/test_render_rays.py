"""render_rays' reference: forward against a loop over rays and samples, closed-form backward against autograd."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from cips3d_ext.reference import render_rays, render_rays_backward, siren_field, siren_field_shapes
from cips3d_ext.reference.render_rays import stratified_depths

B, R, S, F = 2, 3, 5, 4
FIELD = {"widths": [4, 5], "colour_width": 3, "features": 2}
SCALES = {"point_scale": 2.0, "gamma_scale": 1.5, "gamma_offset": 2.0, "beta_scale": 0.5, "reduced_precision": False}
PLAIN = FIELD | SCALES | {"near": 0.5, "far": 2.5, "view_directions": False, "activation": "relu"}
BACKGROUND = {"last_back": False, "white_channels": 0}
OPTIONS = {
    "cips3d": PLAIN | BACKGROUND,
    "pigan": PLAIN | {"view_directions": True, "activation": "softplus", "last_back": True, "white_channels": 1},
}
every_options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
# fine samples, noise
every_kind = pytest.mark.parametrize("kind", [(True, True), (True, False), (False, True), (False, False)], ids=str)


def sample(options: dict, kind: tuple[bool, bool], dtype: torch.dtype = torch.float64) -> list[Tensor | None]:
    """origins, directions, parameters, gamma, beta, jitter, u, noise_coarse, noise."""
    generator = torch.Generator().manual_seed(3)

    def normal(*size: int) -> Tensor:
        return 0.7 * torch.randn(*size, generator=generator, dtype=torch.float64)

    def uniform(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator, dtype=torch.float64)

    hierarchical, noisy = kind
    shapes = siren_field_shapes(
        options["widths"], options["colour_width"], options["features"], options["view_directions"]
    )
    films = sum(options["widths"]) + options["colour_width"]
    parameters = normal(sum(O * I + O for O, I in shapes))
    tensors = [normal(B, R, 3), normal(B, R, 3), parameters, normal(B, films), normal(B, films), uniform(B, R, S)]
    tensors += [
        uniform(B, R, F) if hierarchical else None,
        normal(B, R, S) if hierarchical and noisy else None,
        normal(B, R, S + F * hierarchical) if noisy else None,
    ]
    return [None if t is None else t.to(dtype) for t in tensors]


def integrate_loop(depths: list[float], density: list[float], options: dict) -> tuple[list[float], float]:
    """Weights of one ray and the sum of them."""
    weights, light = [], 1.0
    for i, raw in enumerate(density):
        sigma = max(raw, 0.0) if options["activation"] == "relu" else math.log1p(math.exp(raw))
        length = depths[i + 1] - depths[i] if i + 1 < len(depths) else 1e10
        alpha = -math.expm1(-sigma * length)
        weights.append(alpha * light)
        light *= 1 - alpha + 1e-10
    return weights, sum(weights)


def sample_loop(depths: list[float], weights: list[float], u: list[float]) -> list[float]:
    """Depths at the probabilities u, between the middles of the depths; 1e-5 is added to the weights twice."""
    middles = [(a + b) / 2 for a, b in zip(depths, depths[1:], strict=False)]
    inner = [w + 2e-5 for w in weights[1:-1]]
    edges = [sum(inner[:k]) / sum(inner) for k in range(len(inner) + 1)]
    found = []
    for value in u:
        k = min(max(sum(edge < value for edge in edges) - 1, 0), len(inner) - 1)
        share = (value - edges[k]) / (edges[k + 1] - edges[k])
        found.append(middles[k] + share * (middles[k + 1] - middles[k]))
    return found


def render_loop(origins, directions, parameters, gamma, beta, jitter, u, noise_coarse, noise, **options):
    names = ("widths", "colour_width", "features", *SCALES)
    field_options = {name: options[name] for name in names}
    spacing = (options["far"] - options["near"]) / (S - 1)
    results = []
    wide = partial(torch.tensor, dtype=torch.float64)

    def field(b, r, depth):
        point = (origins[b, r] + depth * directions[b, r]).view(1, 1, 3)
        view = directions[b, r].view(1, 1, 3) if options["view_directions"] else None
        feature, density = siren_field(point, parameters, gamma[b : b + 1], beta[b : b + 1], view, **field_options)
        return feature[0, 0], float(density)

    def noisy(values, numbers, b, r):
        return values if numbers is None else [v + float(n) for v, n in zip(values, numbers[b, r], strict=True)]

    for b in range(B):
        for r in range(R):
            depths = [options["near"] + (i + float(jitter[b, r, i]) - 0.5) * spacing for i in range(S)]
            fine = []
            if u is not None:
                density = noisy([field(b, r, z)[1] for z in depths], noise_coarse, b, r)
                fine = sample_loop(depths, integrate_loop(depths, density, options)[0], u[b, r].tolist())
            depths = sorted(depths + fine)
            values = [field(b, r, z) for z in depths]
            weights, total = integrate_loop(depths, noisy([density for _, density in values], noise, b, r), options)
            if options["last_back"]:
                weights[-1] += 1 - total
            feature = sum(w * f for w, (f, _) in zip(weights, values, strict=True))
            feature[: options["white_channels"]] += 1 - total
            depth = sum(w * z for w, z in zip(weights, depths, strict=True))
            results.append((feature, wide(depth), wide(weights), wide(fine)))
    return tuple(torch.stack(column).view(B, R, *column[0].shape) for column in zip(*results, strict=True))


@every_options
@every_kind
def test_forward_is_the_loop(options, kind):
    tensors = sample(options, kind)
    found, wanted = render_rays(*tensors, **options), render_loop(*tensors, **options)
    assert found[3].shape == (B, R, F if kind[0] else 0)
    for name, actual, expected in zip(("feature", "depth", "weights", "fine depths"), found, wanted, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9, msg=name)


@every_options
@every_kind
def test_backward_of_both_orders_is_autograds(options, kind):
    """Through the forward pass; each gradient also alone, and with one output's gradient at a time."""
    tensors = sample(options, kind)
    for tensor in tensors[:5]:
        tensor.requires_grad_()
    *outputs, fine = render_rays(*tensors, **options)
    assert not fine.requires_grad
    cotangents = [torch.randn_like(o).requires_grad_() for o in outputs]
    wanted = torch.autograd.grad(outputs, tensors[:5], cotangents, create_graph=True)
    found = render_rays_backward(*cotangents, fine, *tensors, **options)
    for actual, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(actual, expected)
    parts = [
        render_rays_backward(*(c if i == k else None for k, c in enumerate(cotangents)), fine, *tensors, **options)
        for i in range(3)
    ]
    for actual, *each in zip(found, *parts, strict=True):
        torch.testing.assert_close(sum(each), actual)
    for k, expected in enumerate(found):
        alone = render_rays_backward(*cotangents, fine, *tensors, **options, grad_mask=1 << k)
        assert torch.equal(alone[k], expected) and all(g is None for i, g in enumerate(alone) if i != k)

    directions = [torch.randn_like(g) for g in wanted]
    inputs = [*tensors[:5], *cotangents]
    second = [
        torch.autograd.grad(grads, inputs, directions, allow_unused=True, materialize_grads=True)
        for grads in (found, wanted)
    ]
    for actual, expected in zip(*second, strict=True):
        torch.testing.assert_close(actual, expected)


@every_options
@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16), ids=str)
def test_half_types_are_rounded_once(options, dtype):
    halves = sample(options, (True, True), dtype)
    found = render_rays(*halves, **options)
    wanted = render_rays(*(t.float() for t in halves), **options)
    assert found[3].dtype == torch.float32 and torch.equal(found[3], wanted[3])
    assert all(torch.equal(f, w.to(dtype)) for f, w in zip(found[:3], wanted[:3], strict=True))


def test_stratified_depths_stay_in_their_intervals():
    assert torch.allclose(stratified_depths(1.0, 2.0, torch.full((1, 1, 5), 0.5)), torch.linspace(1, 2, 5))
    jitter = torch.rand(2, 7, 5, generator=torch.Generator().manual_seed(0))
    depths = stratified_depths(1.0, 2.0, jitter)
    assert (depths.diff(dim=-1) > 0).all()
    assert ((depths - torch.linspace(1, 2, 5)).abs() <= 0.125).all()
