"""What the contract's table does not show of sample_planes and sample_volume: EG3D's and VolumeGAN's calls as their
authors write them, dtypes beside each other, what is kept for the backward."""

import pytest
import torch
import torch.nn.functional as F

from cips3d_ext import sample_planes, sample_volume
from cips3d_ext.testing import assert_close
from cips3d_ext.testing.compare import TOLERANCES, relative_error


def rand(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(len(shape))) - 0.5


def test_the_defaults_are_eg3ds():
    planes, points, box_warp = rand(2, 3, 8, 16, 16), rand(2, 50, 3), 0.8
    x, y, z = (points * (2 / box_warp)).unbind(-1)
    on_planes = torch.stack([torch.stack(pair, -1) for pair in ((x, y), (x, z), (z, x))], 1)
    sampled = F.grid_sample(planes.flatten(0, 1), on_planes.flatten(0, 1)[:, None], align_corners=False)
    expected = sampled[:, :, 0].transpose(1, 2).unflatten(0, (2, 3)).mean(1)
    torch.testing.assert_close(sample_planes(planes, points, point_scale=2 / box_warp), expected)


def test_a_volume_has_x_along_its_last_axis():
    volume, points = rand(2, 8, 4, 5, 6), 2.5 * rand(2, 50, 3)
    expected = F.grid_sample(volume, points[:, None, None], padding_mode="border", align_corners=True)
    found = sample_volume(volume, points, padding="border", align_corners=True)
    torch.testing.assert_close(found, expected[:, :, 0, 0].transpose(1, 2))


@pytest.mark.parametrize("impl", ["fused", "reference"])
def test_half_planes_are_read_where_float32_points_are(impl):
    """Points rounded to bfloat16 would lie elsewhere."""
    planes, points = rand(1, 3, 4, 64, 64).bfloat16().requires_grad_(), rand(1, 40, 3).requires_grad_()
    found = sample_planes(planes, points, impl=impl)
    expected = sample_planes(planes.double(), points.double(), impl="reference")
    assert_close(found, expected, torch.bfloat16, "float32 points")
    assert found.dtype == torch.bfloat16
    grads = torch.autograd.grad(found.float().sum(), (planes, points))
    assert [g.dtype for g in grads] == [torch.bfloat16, torch.float32]
    elsewhere = sample_planes(planes, points.bfloat16(), impl=impl)
    assert relative_error(elsewhere, expected) > 2 * TOLERANCES[torch.bfloat16].value


def test_float64_points_are_not_rounded_either():
    volume, points = rand(1, 2, 4, 4, 4), rand(1, 9, 3).double().requires_grad_()
    found = sample_volume(volume, points)
    assert found.dtype == torch.float32
    assert torch.equal(found, sample_volume(volume.double(), points).float())
    assert torch.autograd.grad(found.sum(), points)[0].dtype == torch.float64


def test_nothing_of_a_plane_is_kept_for_the_backward():
    planes, points = rand(1, 3, 4, 8, 8).requires_grad_(), rand(1, 300, 3)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        sample_planes(planes, points, impl="fused")
    assert sorted(kept) == sorted([planes.numel(), points.numel()])
