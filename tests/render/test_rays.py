"""Cameras and rays: one convention, checked by geometry rather than by the formulas."""

import math

import pytest
import torch

from cips3d.render import Camera, camera_rays
from cips3d.render.rays import DISTRIBUTIONS

FRONT = math.pi / 2


def test_frontal_camera_looks_at_the_origin_from_plus_z():
    camera = Camera.from_angles(torch.tensor([FRONT], dtype=torch.float64), FRONT)
    wanted = torch.eye(4, dtype=torch.float64)
    wanted[2, 3] = 1  # on the z axis, axes aligned with the world's
    torch.testing.assert_close(camera.cam2world[0], wanted, rtol=0, atol=1e-15)  # the number beside it lost nothing


def test_poses_are_rotations_on_the_unit_sphere():
    camera = Camera.sample(50, yaw_std=2.0, pitch_std=1.0, generator=torch.Generator().manual_seed(0))
    rotation, position = camera.cam2world[:, :3, :3], camera.cam2world[:, :3, 3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(50, 3, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(50))
    torch.testing.assert_close(position.norm(dim=-1), torch.ones(50))
    torch.testing.assert_close(rotation[:, :, 2], position)  # the camera's z axis points away from the origin


def test_rays_cover_the_field_of_view():
    camera = Camera.from_angles(torch.tensor([FRONT], dtype=torch.float64), FRONT, fov_deg=30)
    rays = camera_rays(camera, 5)
    directions = rays.directions.view(5, 5, 3)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(5, 5, dtype=torch.float64))
    torch.testing.assert_close(
        directions[2, 2], torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64), rtol=0, atol=1e-15
    )
    edge = torch.rad2deg(torch.atan2(directions[2, 4, 0], -directions[2, 4, 2]))
    assert edge.item() == pytest.approx(15)  # half the field of view at the last column, x to the right
    assert directions[0, 2, 1] > 0 > directions[4, 2, 1]  # the first row is the top one
    assert torch.equal(rays.origins, camera.cam2world[:, None, :3, 3].expand(1, 25, 3))


def test_look_at_takes_a_direction():
    position = torch.tensor([[1.0, 2.0, 3.0]])
    direction = torch.tensor([[0.0, -2.0, 0.0]])
    camera = Camera.look_at(position, direction, up=torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(camera.cam2world[0, :3, 2], torch.tensor([0.0, 1.0, 0.0]))
    torch.testing.assert_close(camera.cam2world[0, :3, 1], torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(camera.cam2world[0, :3, 3], position[0])
    angles = Camera.from_angles(0.4, 1.2)
    eye = angles.cam2world[:, :3, 3]
    torch.testing.assert_close(Camera.look_at(eye, -3 * eye).cam2world, angles.cam2world)


def test_one_direction_serves_many_positions():
    positions = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    shared = Camera.look_at(positions, torch.tensor([[0.0, 0.1, -1.0]]))
    single = Camera.look_at(positions, torch.tensor([[0.0, 0.1, -1.0]]).repeat(3, 1))
    assert torch.equal(shared.cam2world, single.cam2world)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_sampled_angles(distribution):
    n, spread = 20000, 0.1
    generator = torch.Generator().manual_seed(1)
    camera = Camera.sample(n, 1.0, spread, FRONT, spread, distribution, generator)
    pitch, yaw = camera.pitch_yaw.T
    again = Camera.sample(n, 1.0, spread, FRONT, spread, distribution, torch.Generator().manual_seed(1))
    assert torch.equal(again.pitch_yaw, camera.pitch_yaw)
    assert yaw.mean().item() == pytest.approx(1.0, abs=0.01) and pitch.mean().item() == pytest.approx(FRONT, abs=0.01)
    furthest = (yaw - 1.0).abs().max().item()
    if distribution == "mean":
        assert furthest == 0
    elif "uniform" in distribution:
        assert furthest <= spread + 1e-6
    elif distribution == "truncated_gaussian":
        assert 1.5 * spread < furthest < 2 * spread
    elif distribution in ("gaussian", "normal"):
        assert yaw.std().item() == pytest.approx(spread, rel=0.05) and furthest > 2 * spread


def test_hybrid_is_one_of_two():
    """Uniform of twice the width in about half the calls, gaussian in the others."""
    generator = torch.Generator().manual_seed(0)
    yaws = [Camera.sample(200, 0.0, 1.0, 1.5, 0.1, "hybrid", generator).pitch_yaw[:, 1] for _ in range(40)]
    uniform = sum(yaw.abs().max().item() <= 2 for yaw in yaws)
    assert 10 < uniform < 30


def test_yaw_is_drawn_first():
    generator = torch.Generator().manual_seed(3)
    draw = torch.randn(4, generator=generator), torch.randn(4, generator=generator)
    camera = Camera.sample(4, 1.0, 0.3, 1.5, 0.1, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(camera.pitch_yaw, torch.stack([1.5 + 0.1 * draw[1], 1.0 + 0.3 * draw[0]], -1))


def test_batches_can_be_indexed_and_cast():
    camera = Camera.sample(4, generator=torch.Generator().manual_seed(0), fov_deg=20)
    assert len(camera) == 4 and len(camera[1]) == len(camera[-1]) == 1 and len(camera[:2]) == 2
    assert torch.equal(camera[-1].cam2world, camera.cam2world[3:])
    assert len(camera[torch.tensor([0, 0, 2])]) == 3 and camera[0].fov_deg == 20
    assert camera.to(dtype=torch.float64).pitch_yaw.dtype == torch.float64


def test_errors():
    with pytest.raises(ValueError, match="distribution must be one of gaussian, .* got 'gauss'"):
        Camera.sample(1, distribution="gauss")
    with pytest.raises(ValueError, match=r"direction must be \[B,3\], got \[3\]"):
        Camera.look_at(torch.zeros(1, 3), torch.zeros(3))
    with pytest.raises(ValueError, match=r"yaw must be a number or \[B\], got \[2, 2\]"):
        Camera.from_angles(torch.zeros(2, 2), 0.0)
    for fov_deg in (0.0, 180, torch.tensor([12.0, 14.0])):
        with pytest.raises(ValueError, match="fov_deg must be a number between 0 and 180 degrees"):
            Camera.from_angles(1.0, 1.0, fov_deg)
    with pytest.raises(ValueError, match="at least 2"):
        camera_rays(Camera.from_angles(0.0, 1.0), 1)
