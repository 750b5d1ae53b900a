"""sample_planes' and sample_volume's CPU kernels at each SIMD level."""

import itertools
import math

import pytest
import torch

from cips3d_ext import reference

from ._compare import assert_close

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# (sizes of the grid x first, C, N): grids, channels and points around the vectors, none of channels or points.
SIZES = [((1, 1, 1), 1, 1), ((5, 13, 2), 16, 15), ((17, 4, 3), 33, 16), ((3, 2, 7), 67, 33), ((9, 8, 5), 130, 5)]
SIZES += [((4, 3, 2), 0, 6), ((4, 3, 2), 3, 0)]
AXES = [0, 1, 2, 1, 0, 0]
MODES = list(itertools.product([False, True], ["zeros", "border"]))


def draw(op: str, size, dtype: torch.dtype):
    """The tensors of a call; some points are outside."""
    (W, H, D), C, N = size
    generator = torch.Generator().manual_seed(C)
    shape = (2, 3, C, H, W) if op == "sample_planes" else (2, C, D, H, W)
    grid = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    points = 2.6 * torch.rand(2, N, 3, generator=generator, dtype=torch.float64) - 1.3
    return grid, points.to(torch.float64 if dtype == torch.float64 else torch.float32)


def options_of(op: str, align_corners: bool, padding: str, reduce: str = "mean") -> dict:
    options = {"point_scale": 0.9, "align_corners": align_corners, "padding": padding}
    return {"axes": AXES} | options | {"reduce": reduce} if op == "sample_planes" else options


every_op = pytest.mark.parametrize("op", ["sample_planes", "sample_volume"])


@every_op
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equals_reference(cpu_level, op, size, dtype):
    grid, points = draw(op, size, dtype)
    native, backward = (getattr(torch.ops.cips3d_ext, name) for name in (op, f"{op}_backward"))
    for (align_corners, padding), reduce in zip(MODES, ("mean", "sum", "none", "mean"), strict=True):
        options = options_of(op, align_corners, padding, reduce)
        wanted = getattr(reference, op)(grid.double(), points.double(), **options)
        found = native(grid, points, *options.values())
        assert_close(found, wanted, dtype, f"{op} {options}")
        grad = torch.randn(wanted.shape, dtype=torch.float64).to(dtype)
        inputs = (grad.double(), grid.double(), points.double())
        wanted_grads = getattr(reference, f"{op}_backward")(*inputs, **options)
        found_grads = backward(grad, grid, points, *options.values(), 3)
        assert_close(found_grads[0], wanted_grads[0], dtype, f"gradient of the grid, {options}")
        assert_close(found_grads[1], wanted_grads[1], points.dtype, f"gradient of points, {options}")


@every_op
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_texels_edges_and_wild_coordinates(cpu_level, op, mode):
    """On texels' centres and edges, on both sides of the grid's, far away, infinite, and NaN."""
    grid, _ = draw(op, ((4, 8, 2), 5, 0), torch.float64)
    at = [-1.5, -1.25, -1.0, -0.875, -0.75, -0.25, 0.0, 0.5, 0.75, 1.0, 1.125, 1.25, 1e30, -1e30, math.inf, -math.inf]
    points = torch.cartesian_prod(*[torch.tensor(at, dtype=torch.float64)] * 3)
    points = torch.stack([points, points.flip(0)])
    options = options_of(op, *mode) | {"point_scale": 1.0}
    native, backward = (getattr(torch.ops.cips3d_ext, name) for name in (op, f"{op}_backward"))
    wanted = getattr(reference, op)(grid, points, **options)
    torch.testing.assert_close(native(grid, points, *options.values()), wanted)
    found = backward(wanted, grid, points, *options.values(), 3)
    for got, want in zip(found, getattr(reference, f"{op}_backward")(wanted, grid, points, **options), strict=True):
        torch.testing.assert_close(got, want)
    points[:, 7, 0] = math.nan
    got = native(grid, points, *options.values())
    assert got[:, 7].isnan().all()
    assert torch.equal(got[:, 8:], native(grid, points[:, 8:], *options.values()))


@every_op
def test_only_what_is_wanted(cpu_level, op):
    grid, points = draw(op, ((5, 4, 3), 7, 9), torch.float32)
    options = options_of(op, *MODES[0])
    grad = torch.randn(2, 9, 7)
    backward = getattr(torch.ops.cips3d_ext, f"{op}_backward")
    both = backward(grad, grid, points, *options.values(), 3)
    for position in range(2):
        one = backward(grad, grid, points, *options.values(), 1 << position)
        assert torch.equal(one[position], both[position]) and one[1 - position].shape == (0,)


@every_op
def test_threads_give_the_same_bits(cpu_level, one_and_two_threads, op):
    grid, points = draw(op, ((9, 7, 6), 37, 1100), torch.float32)
    options = options_of(op, *MODES[0])
    results = []
    for threads in one_and_two_threads:
        torch.set_num_threads(threads)
        out = getattr(torch.ops.cips3d_ext, op)(grid, points, *options.values())
        results.append((out, *getattr(torch.ops.cips3d_ext, f"{op}_backward")(out, grid, points, *options.values(), 3)))
    assert all(torch.equal(first, second) for first, second in zip(*results, strict=True))


def test_wrong_calls_are_refused_before_memory_is_touched():
    planes, points, ops = torch.ones(2, 3, 4, 5, 6), torch.ones(2, 7, 3), torch.ops.cips3d_ext
    for axes, at, padding, reduce, message in [
        ([0, 1, 2], points, "zeros", "mean", "axes must hold two coordinates for each of 3 planes, got 3"),
        ([0, 1, 2, 3, 0, 1], points, "zeros", "mean", "axes must be coordinates 0, 1 or 2, got 3"),
        (AXES, points.double(), "zeros", "mean", "points must be Float beside planes of Float, got Double"),
        (AXES, points[:1], "zeros", "mean", r"points must be \[B,N,3\] with the B of the grids, got \[1,7,3\]"),
        (AXES, points, "wrap", "mean", "padding must be zeros or border, got wrap"),
        (AXES, points, "zeros", "max", "reduce must be mean, sum or none, got max"),
    ]:
        with pytest.raises(RuntimeError, match=message):
            ops.sample_planes(planes, at, axes, 1.0, False, padding, reduce)
    with pytest.raises(RuntimeError, match=r"1 to 2\^24 texels along each axis .*\[2,3,0,5,6\]"):
        ops.sample_volume(torch.ones(2, 3, 0, 5, 6), points, 1.0, False, "zeros")
    with pytest.raises(RuntimeError, match=r"grad must be like the output, got \[2,7,5\]"):
        ops.sample_volume_backward(torch.ones(2, 7, 5), planes, points, 1.0, False, "zeros", 3)
    many = torch.ones(1, 65, 1, 1, 1)
    with pytest.raises(RuntimeError, match='must hold 1 to 64 planes a sample.*impl="reference"'):
        ops.sample_planes(many, points[:1], [0, 1] * 65, 1.0, False, "zeros", "mean")
