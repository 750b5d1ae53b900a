"""siren_field's reference: forward against float64 loops, closed-form backward against autograd, in both orders."""

import math

import pytest
import torch
from torch import Tensor

from cips3d_ext.reference import siren_field, siren_field_backward, siren_field_shapes

B, R, S = 2, 2, 3  # R directions of S points
SCALES = {"point_scale": 2.0, "gamma_scale": 1.5, "gamma_offset": 3.0, "beta_scale": 0.25}
FIELDS = {
    "density_alone": {"widths": [4]},
    "features_of_the_trunk": {"widths": [4, 5], "features": 3},
    "colour": {"widths": [5, 4], "colour_width": 3, "features": 2},
    "colour_without_features": {"widths": [5], "colour_width": 3},
    "nine_layers": {"widths": [3, 4, 5, 4, 3, 4, 3, 4], "colour_width": 3, "features": 2},
}
every_field = pytest.mark.parametrize("options", FIELDS.values(), ids=FIELDS)
# (gamma, beta, directions) present
every_present = pytest.mark.parametrize("present", [(1, 1, 1), (0, 0, 0), (1, 0, 0), (0, 1, 1)], ids=str)


def sample(options: dict, present: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[Tensor | None]:
    """points, parameters, gamma, beta, directions; the last only with a colour layer."""
    generator = torch.Generator().manual_seed(0)
    colour_width = options.get("colour_width", 0)
    gamma, beta, directions = present[0], present[1], present[2] and colour_width
    shapes = siren_field_shapes(options["widths"], colour_width, options.get("features", 0), bool(directions))
    film = (B, sum(options["widths"]) + colour_width)
    sizes = [(B, R * S, 3), (sum(O * I + O for O, I in shapes),)]
    sizes += [film if gamma else None, film if beta else None, (B, R, 3) if directions else None]
    return [
        None if size is None else torch.randn(size, generator=generator, dtype=torch.float64).div(2).to(dtype)
        for size in sizes
    ]


def field_loops(points, parameters, gamma, beta, directions, widths, colour_width=0, features=0):
    """One point after the other, one channel after the other, reading `parameters` from its beginning."""
    values = iter(parameters.tolist())

    def read(O: int, I: int) -> tuple[list[list[float]], list[float]]:
        return [[next(values) for _ in range(I)] for _ in range(O)], [next(values) for _ in range(O)]

    trunk = [read(O, I) for O, I in zip(widths, [3, *widths[:-1]], strict=True)]
    density_map = read(1, widths[-1])
    colour_map = read(colour_width, widths[-1] + 3 * (directions is not None)) if colour_width else None
    feature_map = read(features, colour_width or widths[-1])
    assert next(values, None) is None

    def linear(layer, x):
        return [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(*layer, strict=True)]

    def sine(layer, x, b, first):
        y = []
        for o, u in enumerate(linear(layer, x), first):
            g = 1.0 if gamma is None else SCALES["gamma_scale"] * float(gamma[b, o]) + SCALES["gamma_offset"]
            h = 0.0 if beta is None else SCALES["beta_scale"] * float(beta[b, o])
            y.append(math.sin(g * u + h))
        return y

    out, density = torch.zeros(B, R * S, features, dtype=torch.float64), torch.zeros(B, R * S, dtype=torch.float64)
    for b in range(B):
        for n in range(R * S):
            x = [SCALES["point_scale"] * v for v in points[b, n].tolist()]
            first = 0
            for layer, width in zip(trunk, widths, strict=True):
                x = sine(layer, x, b, first)
                first += width
            density[b, n] = linear(density_map, x)[0]
            if colour_map is not None:
                x = sine(colour_map, (directions[b, n // S].tolist() if directions is not None else []) + x, b, first)
            out[b, n] = torch.tensor(linear(feature_map, x), dtype=torch.float64)
    return out, density


@every_field
@every_present
def test_forward_is_the_formula(options, present):
    tensors = sample(options, present)
    for got, want in zip(siren_field(*tensors, **options, **SCALES), field_loops(*tensors, **options), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


@every_field
@every_present
def test_backward_is_autograd_in_both_orders(options, present):
    tensors = [None if t is None else t.requires_grad_() for t in sample(options, present)]
    given = [t for t in tensors if t is not None]
    outputs = siren_field(*tensors, **options, **SCALES)
    cotangents = [torch.randn_like(o).requires_grad_() for o in outputs]
    expected = torch.autograd.grad(outputs, given, cotangents, create_graph=True)
    found = siren_field_backward(*cotangents, *tensors, **options, **SCALES)
    assert [g is None for g in found] == [t is None for t in tensors]
    found = [g for g in found if g is not None]
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)

    probes = [torch.randn_like(g) for g in expected]
    sources = [*cotangents, *given]
    second_expected = torch.autograd.grad(expected, sources, probes, allow_unused=True)
    second_found = torch.autograd.grad(found, sources, probes, allow_unused=True)
    for got, want in zip(second_found, second_expected, strict=True):
        if got is None or want is None:  # no features, no gradient of theirs
            assert not any(t is not None and t.any() for t in (got, want))
        else:
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("absent", [0, 1])
def test_absent_gradients_count_as_zero(absent):
    options = FIELDS["colour"]
    tensors = sample(options, (1, 1, 1))
    cotangents = [torch.randn_like(o) for o in siren_field(*tensors, **options)]
    zeroed = [torch.zeros_like(c) if i == absent else c for i, c in enumerate(cotangents)]
    cotangents[absent] = None
    pairs = zip(
        siren_field_backward(*cotangents, *tensors, **options),
        siren_field_backward(*zeroed, *tensors, **options),
        strict=True,
    )
    assert all(torch.equal(got, want) for got, want in pairs)


def test_grad_mask_selects():
    options = FIELDS["colour"]
    tensors = sample(options, (1, 1, 1))
    cotangents = [torch.ones_like(o) for o in siren_field(*tensors, **options)]
    found = siren_field_backward(*cotangents, *tensors, **options, grad_mask=0b10010)
    assert [g is not None for g in found] == [False, True, False, False, True]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_compute_in_float32_and_round_once(dtype):
    options = FIELDS["colour"]
    tensors = sample(options, (1, 1, 1), dtype)
    wide = [t.float() for t in tensors]
    outputs, expected = siren_field(*tensors, **options), siren_field(*wide, **options)
    assert all(torch.equal(got, want.to(dtype)) for got, want in zip(outputs, expected, strict=True))
    cotangents = [torch.ones_like(o) for o in outputs]
    found = siren_field_backward(*cotangents, *tensors, **options)
    expected = siren_field_backward(*(c.float() for c in cotangents), *wide, **options)
    assert all(torch.equal(got, want.to(dtype)) for got, want in zip(found, expected, strict=True))


@pytest.mark.parametrize(("batch", "rays", "points"), [(0, 2, 6), (2, 0, 0), (2, 3, 0), (1, 1, 1)])
def test_empty_and_single_points(batch, rays, points):
    options = FIELDS["colour"]
    _, parameters, _, _, _ = sample(options, (1, 1, 1), torch.float32)
    film = torch.ones(batch, 12)
    tensors = [torch.ones(batch, points, 3), parameters, film, film, torch.ones(batch, rays, 3)]
    outputs = siren_field(*tensors, **options)
    assert [o.shape for o in outputs] == [(batch, points, 2), (batch, points)]
    found = siren_field_backward(*(torch.ones_like(o) for o in outputs), *tensors, **options)
    assert [g.shape for g in found] == [t.shape for t in tensors]
