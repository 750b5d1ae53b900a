"""Depths along rays: stratified, importance sampled, and the points they stand for."""

import torch

from cips3d.render import Camera, camera_rays
from cips3d.render.points import importance_depths, points_along, stratified_depths


def test_stratified_depths_stay_in_their_intervals():
    assert torch.allclose(stratified_depths(1.0, 2.0, torch.full((1, 1, 5), 0.5)), torch.linspace(1, 2, 5))
    jitter = torch.rand(2, 7, 5, generator=torch.Generator().manual_seed(0))
    depths = stratified_depths(1.0, 2.0, jitter)
    assert (depths.diff(dim=-1) > 0).all()
    assert ((depths - torch.linspace(1, 2, 5)).abs() <= 0.125).all()


def test_importance_depths_follow_the_weights():
    depths = torch.linspace(0, 1, 9).expand(1, 1, 9)
    weights = torch.zeros(1, 1, 9)
    weights[..., 4] = 1.0  # between the midpoints 0.4375 and 0.5625
    u = torch.rand(1, 1, 200, generator=torch.Generator().manual_seed(0))
    fine = importance_depths(depths, weights, u, "auto")
    inside = ((fine > 0.4375) & (fine < 0.5625)).float().mean()
    assert inside > 0.99


def test_points_lie_on_their_rays():
    rays = camera_rays(Camera.from_angles(torch.tensor([0.3, 1.2]), 1.4), 3)
    depths = torch.rand(2, 9, 4, generator=torch.Generator().manual_seed(0))
    points = points_along(rays, depths)
    assert points.shape == (2, 9, 4, 3)
    offset = points - rays.origins.unsqueeze(2)
    torch.testing.assert_close((offset * rays.directions.unsqueeze(2)).sum(-1), depths)
    torch.testing.assert_close(offset.norm(dim=-1), depths)
