"""The panels of a constructed ball have its depth and normals; images are the generator's."""

import math

import pytest
import torch

from cips3d.models.view import PANELS, view
from cips3d.render import Camera, Draws, camera_rays
from cips3d.render.volume import VolumeSettings

RADIUS, FAR, SIDE, SAMPLES = 0.08, 1.12, 33, 12
SPACING = 0.24 / (SAMPLES - 1)  # between the first samples of a ray
SETTINGS = VolumeSettings(0.88, FAR, SAMPLES, True, 0.0, "relu", False, False)
CAMERA = Camera.from_angles(torch.tensor([1.5, 1.2]), torch.tensor([1.4, 1.8]))


def panels_of(ball, names=PANELS, settings=SETTINGS, ray_chunk=10**6):
    styles = torch.randn(2, 128, generator=torch.Generator().manual_seed(0)), torch.ones(2, 512)
    return styles, view(ball, *styles, CAMERA, names, SIDE, settings, ray_chunk)


def true_depth() -> torch.Tensor:
    """Distances [2,S,S] to the ball, nan where a ray misses it."""
    rays = camera_rays(CAMERA, SIDE)
    towards = -(rays.origins * rays.directions).sum(-1)
    inside = towards**2 - (rays.origins**2).sum(-1) + RADIUS**2
    return (towards - inside.sqrt()).unflatten(-1, (SIDE, SIDE))


def test_depth_of_a_ball(ball):
    depth = panels_of(ball, ["depth"])[1]["depth"][:, 0]
    truth = true_depth()
    missed = truth.isnan()
    assert depth.shape == (2, SIDE, SIDE) and missed.any() and not missed.all()
    assert torch.all(depth[missed] == FAR)
    well_inside = truth < 0.96  # towards the outline a ray's way through the ball is shorter than a sample's
    assert (depth - truth)[well_inside].abs().max() < SPACING


@pytest.mark.parametrize("hierarchical", [True, False])
def test_normals_of_a_ball(ball, hierarchical):
    settings = VolumeSettings(
        0.88, FAR, SAMPLES if hierarchical else 2 * SAMPLES, hierarchical, 0.0, "relu", False, False
    )
    normal = panels_of(ball, ["normal"], settings)[1]["normal"]
    truth, rays = true_depth(), camera_rays(CAMERA, SIDE)
    points = rays.origins + rays.directions * truth.flatten(1)[..., None]
    wanted = (points / RADIUS @ CAMERA.cam2world[:, :3, :3]).mT.unflatten(-1, (SIDE, SIDE))
    assert torch.all(normal.movedim(1, -1)[truth.isnan()] == 0)
    well_inside = truth < 0.96
    angle = torch.rad2deg(torch.acos((normal * wanted).sum(1).clamp(-1, 1)))[well_inside]
    assert angle.mean() < 6 and angle.max() < 15  # the surface is met up to a sample too late
    middle = normal[0, :, SIDE // 2, SIDE // 2]
    torch.testing.assert_close(middle, torch.tensor([0.0, 0.0, 1.0]), rtol=0, atol=1e-2)  # towards the camera


def test_images_are_the_generators(ball):
    styles, panels = panels_of(ball, ["nerf", "inr"])
    out = ball.synthesise(*styles, CAMERA, SIDE, SAMPLES, draws=Draws.none(samples=SAMPLES))
    torch.testing.assert_close(panels["inr"], out.image.detach())
    torch.testing.assert_close(panels["nerf"], out.aux_image.detach())


def test_chunks_change_nothing_and_bound_the_rays(ball, monkeypatch):
    whole, seen, trace = panels_of(ball)[1], [], ball.trace

    def record(films, rays, *rest):
        seen.append(rays.directions.shape[1])
        return trace(films, rays, *rest)

    monkeypatch.setattr(ball, "trace", record)
    parts = panels_of(ball, ray_chunk=100)[1]
    assert max(seen) == 100 and len(seen) == math.ceil(SIDE**2 / 100)
    for name in PANELS:
        torch.testing.assert_close(parts[name], whole[name])
        assert not whole[name].requires_grad


@pytest.mark.parametrize("names", [["inr", "colour"], []])
def test_unknown_panels(ball, names):
    with pytest.raises(ValueError, match="panels must be some of inr, nerf, depth, normal, got (inr, colour|none)"):
        panels_of(ball, names)
