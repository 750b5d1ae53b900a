"""`render_field` is `render_rays` with any field in its place; the other rules along a ray."""

import pytest
import torch
import torch.nn.functional as F

from cips3d.render import Camera, Draws, camera_rays
from cips3d.render.volume import RayRule, VolumeSettings, render_features, render_field
from cips3d_ext import SirenField, SirenFieldOutput, sample_pdf, volume_render

SIDE, SAMPLES = 3, 5


def drawn(hierarchical, noisy):
    source = torch.Generator().manual_seed(0)
    shape = 2, SIDE**2, SAMPLES
    merged = (*shape[:2], SAMPLES * (2 if hierarchical else 1))
    return Draws(
        torch.rand(shape, generator=source),
        torch.rand(shape, generator=source) if hierarchical else None,
        torch.randn(shape, generator=source) if hierarchical and noisy else None,
        torch.randn(merged, generator=source) if noisy else None,
    )


@pytest.fixture
def scene():
    torch.manual_seed(0)
    field = SirenField(4, [6, 6], 5, 3, view_directions=True, point_scale=2 / 0.24)
    with torch.no_grad():
        field.density.weight.mul_(50)
    rays = camera_rays(Camera.sample(2, generator=torch.Generator().manual_seed(1)), SIDE)
    return field, field.films(torch.randn(2, 4)), rays


@pytest.mark.parametrize(
    ("hierarchical", "noisy", "last_back", "white_back"),
    [(True, True, True, False), (True, False, False, True), (False, True, False, False)],
)
def test_any_field_renders_as_the_one_op(scene, hierarchical, noisy, last_back, white_back):
    field, films, rays = scene
    settings = VolumeSettings(0.88, 1.12, SAMPLES, hierarchical, 0.5 if noisy else 0.0, "relu", last_back, white_back)
    draws = drawn(hierarchical, noisy)
    wanted = render_features(field, films, rays, draws, settings)
    found = render_field(lambda p, d: field(p, films, d), rays, draws, settings)
    for name, a, b in zip(wanted._fields, found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4, msg=name)
    gradients = [
        torch.autograd.grad(out.feature.sum(), field.layers[0].weight, retain_graph=True)[0] for out in (found, wanted)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-2, atol=1e-3)


def test_eg3ds_rule_along_a_ray():
    """Depths behind the even ones; importance by pooled midpoint weights; features integrated between samples."""
    rays = camera_rays(Camera.from_angles(torch.tensor([1.6]), 1.5), 2)
    draws = Draws(*(torch.rand(1, 4, 6, generator=torch.Generator().manual_seed(k)) for k in (1, 2)))
    settings = VolumeSettings(0.8, 1.2, 6, True, 0.0, "softplus", False, False)

    def query(points, directions):
        density = 40 - 900 * points.square().sum(-1)
        return SirenFieldOutput(torch.sin(9 * points), density)

    integral = {"rule": "midpoint", "shift": -1.0, "depth": "expected"}
    found = render_field(query, rays, draws, settings, RayRule(jitter_offset=0.0, pooled=True, integral=integral))

    even = torch.linspace(0.8, 1.2, 6)
    coarse = even + draws.jitter * (even[1] - even[0])

    def at(depths):
        return query(rays.origins[:, :, None] + depths[..., None] * rays.directions[:, :, None], None)

    weights = volume_render(at(coarse).density, None, coarse, activation="softplus", **integral).weights
    pooled = F.avg_pool1d(F.max_pool1d(weights, 2, 1, padding=1), 2, 1) + 0.01
    middles = (coarse[..., 1:] + coarse[..., :-1]) / 2
    fine = sample_pdf(middles, pooled[..., 1:-1], 6, u=draws.u, right=True)
    depths = torch.cat([fine, coarse], -1).sort(-1).values
    wanted = volume_render(at(depths).density, at(depths).features, depths, activation="softplus", **integral)
    torch.testing.assert_close(found.feature, wanted.feature)
    torch.testing.assert_close(found.depth, wanted.depth)
    assert found.weights.shape == (1, 4, 11)
