"""sample_planes' and sample_volume's references: forward against float64 loops and F.grid_sample, closed-form backward
against autograd, in both orders."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from cips3d_ext.reference import sample_planes, sample_planes_backward, sample_volume, sample_volume_backward

B, P, C, N = 2, 3, 4, 25
SIZES = (3, 5, 4)  # D H W
AXES = [0, 1, 0, 2, 2, 0]
MODES = [{"align_corners": a, "padding": p} for a, p in itertools.product([False, True], ["zeros", "border"])]
every_mode = pytest.mark.parametrize("mode", MODES, ids=lambda m: f"{m['padding']}-{m['align_corners']}")
every_reduction = pytest.mark.parametrize("reduce", ["mean", "sum", "none"])


def draw(op: str, dtype=torch.float64):
    """A grid and points, some outside, the first on the very corner of the grid."""
    generator = torch.Generator().manual_seed(0)
    shape = (B, P, C, *SIZES[1:]) if op == "sample_planes" else (B, C, *SIZES)
    points = 2.6 * torch.rand(B, N, 3, generator=generator, dtype=torch.float64) - 1.3
    points[:, 0] = torch.tensor([1.0, -1.0, 1.0])
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype), points


def interpolate_loops(grid, coordinates, align_corners, padding):
    """grid [C,*sizes] at one point, coordinates in x, y (, z) order."""
    per_axis = []
    for coordinate, size in zip(reversed(coordinates), grid.shape[1:], strict=True):
        position = (coordinate + 1) / 2 * (size - 1) if align_corners else ((coordinate + 1) * size - 1) / 2
        if padding == "border":
            position = min(max(position, 0.0), size - 1.0)
        below = math.floor(position)
        per_axis.append([(below, 1 - position + below), (below + 1, position - below)])
    result = torch.zeros(grid.shape[0], dtype=torch.float64)
    for corner in itertools.product(*per_axis):
        if all(0 <= i < size for (i, _), size in zip(corner, grid.shape[1:], strict=True)):
            result += math.prod(w for _, w in corner) * grid[(slice(None), *(i for i, _ in corner))]
    return result


@every_mode
@every_reduction
def test_planes_are_the_formula(mode, reduce):
    planes, points = draw("sample_planes")
    found = sample_planes(planes, points, axes=AXES, point_scale=1.1, reduce=reduce, **mode)
    for b, n in itertools.product(range(B), range(N)):
        at = [1.1 * float(x) for x in points[b, n]]
        pairs = zip(AXES[::2], AXES[1::2], strict=True)
        each = [interpolate_loops(planes[b, p], (at[x], at[y]), **mode) for p, (x, y) in enumerate(pairs)]
        if reduce == "none":
            torch.testing.assert_close(found[b, :, n], torch.stack(each))
        else:
            total = sum(each)
            torch.testing.assert_close(found[b, n], total / P if reduce == "mean" else total)


@every_mode
def test_volume_is_the_formula(mode):
    volume, points = draw("sample_volume")
    found = sample_volume(volume, points, point_scale=0.9, **mode)
    for b, n in itertools.product(range(B), range(N)):
        expected = interpolate_loops(volume[b], [0.9 * float(x) for x in points[b, n]], **mode)
        torch.testing.assert_close(found[b, n], expected)


def grid_sample(op, grid, points, align_corners, padding):
    if op == "sample_volume":
        sampled = F.grid_sample(grid, points[:, None, None], "bilinear", padding, align_corners)
        return sampled[:, :, 0, 0].transpose(1, 2)
    on_planes = torch.stack([points[..., [x, y]] for x, y in zip(AXES[::2], AXES[1::2], strict=True)], 1)
    sampled = F.grid_sample(grid.flatten(0, 1), on_planes.flatten(0, 1)[:, None], "bilinear", padding, align_corners)
    return sampled[:, :, 0].transpose(1, 2).unflatten(0, (B, P)).mean(1)


REFERENCES = {
    "sample_planes": (sample_planes, sample_planes_backward),
    "sample_volume": (sample_volume, sample_volume_backward),
}
every_op = pytest.mark.parametrize("op", REFERENCES)


def options_of(op, mode):
    return mode | ({"axes": AXES} if op == "sample_planes" else {})


@every_op
@every_mode
def test_outputs_and_gradients_are_those_of_grid_sample(op, mode):
    """Also where border padding holds a point, and on the very edge, where grid_sample has no gradient either."""
    grid, points = (t.requires_grad_() for t in draw(op))
    forward, backward = REFERENCES[op]
    expected = grid_sample(op, grid, points, **mode)
    found = forward(grid, points, **options_of(op, mode))
    torch.testing.assert_close(found, expected)
    grad = torch.randn_like(expected)
    expected_grads = torch.autograd.grad(expected, (grid, points), grad)
    autograd_grads = torch.autograd.grad(found, (grid, points), grad)
    closed_form = backward(grad, grid, points, **options_of(op, mode))
    for other in (autograd_grads, closed_form):
        for got, want in zip(other, expected_grads, strict=True):
            torch.testing.assert_close(got, want)


@every_op
@every_mode
def test_backward_is_autograd_in_both_orders(op, mode):
    for options in CALLS[op]:
        check_both_orders(op, options_of(op, mode) | {"point_scale": 1.2} | options)


CALLS = {"sample_planes": [{"reduce": reduce} for reduce in ("mean", "sum", "none")], "sample_volume": [{}]}


def check_both_orders(op, options):
    grid, points = (t.requires_grad_() for t in draw(op))
    forward, backward = REFERENCES[op]
    y = forward(grid, points, **options)
    grad = torch.randn_like(y).requires_grad_()
    expected = torch.autograd.grad(y, (grid, points), grad, create_graph=True)
    found = backward(grad, grid, points, **options)
    probes = [torch.randn_like(g) for g in expected]
    second_expected = torch.autograd.grad(expected, [grad, grid, points], probes)
    second_found = torch.autograd.grad(found, [grad, grid, points], probes)
    for got, want in zip((*found, *second_found), (*expected, *second_expected), strict=True):
        torch.testing.assert_close(got, want)


@every_op
def test_grad_mask_selects(op):
    grid, points = draw(op)
    forward, backward = REFERENCES[op]
    options = options_of(op, MODES[0])
    grad = torch.ones_like(forward(grid, points, **options))
    assert [g is None for g in backward(grad, grid, points, **options, grad_mask=0b01)] == [False, True]
    assert [g is None for g in backward(grad, grid, points, **options, grad_mask=0b10)] == [True, False]


@every_op
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_compute_in_float32_and_round_once(op, dtype):
    grid, points = draw(op, dtype)
    points = points.float()
    forward, backward = REFERENCES[op]
    options = options_of(op, MODES[0])
    y = forward(grid, points, **options)
    assert y.dtype == dtype and torch.equal(y, forward(grid.float(), points, **options).to(dtype))
    grad_grid, grad_points = backward(torch.ones_like(y), grid, points, **options)
    expected = backward(torch.ones_like(y).float(), grid.float(), points, **options)
    assert torch.equal(grad_grid, expected[0].to(dtype)) and torch.equal(grad_points, expected[1])


@every_op
@every_mode
def test_wild_coordinates(op, mode):
    """Far and infinite ones are outside; NaN gives NaN, in its own point alone."""
    grid, points = draw(op)
    options = options_of(op, mode)
    forward, _ = REFERENCES[op]
    expected = forward(grid, points, **options)
    for wild in (math.inf, -math.inf, 1e30):
        changed = points.clone()
        changed[:, 3] = wild
        found = forward(grid, changed, **options)
        assert found.isfinite().all() and (mode["padding"] == "border" or not found[:, 3].any())
    changed[:, 3] = math.nan
    found = forward(grid, changed, **options)
    assert found[:, 3].isnan().all() and torch.equal(found[:, 4:], expected[:, 4:])


@every_op
@pytest.mark.parametrize("batch,count", [(0, 3), (2, 0)])
def test_empty_batches_and_points(op, batch, count):
    grid, points = draw(op)
    grid, points = grid[:batch], points[:batch, :count]
    forward, backward = REFERENCES[op]
    y = forward(grid, points, **options_of(op, MODES[0]))
    assert y.shape == (batch, count, C)
    found = backward(torch.ones_like(y), grid, points, **options_of(op, MODES[0]))
    assert [g.shape for g in found] == [grid.shape, points.shape] and not found[0].any()
