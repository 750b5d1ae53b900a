"""The field's variants: a fixed positional encoding, and colours that depend on the view."""

import dataclasses
import math

import pytest
import torch

from cips3d.config import build, load_preset
from cips3d.models.generator import Generator
from cips3d.models.generator_config import GeneratorConfig
from cips3d.models.mesh import extract_mesh
from cips3d.models.official import export_official
from cips3d.models.view import view
from cips3d.render import Camera, Rays
from cips3d.render.field import OCTAVES, make_field
from cips3d.render.volume import VolumeSettings, render_normals

CONFIG = build(GeneratorConfig, load_preset("generator", "tiny"), "tiny")
FIXED = dataclasses.replace(CONFIG, positional_encoding="fixed")
DIRECTED = dataclasses.replace(CONFIG, view_directions=True)
SETTINGS = VolumeSettings(0.88, 1.12, 6, True, 0.0, "relu", False, False)


def codes(batch):
    return torch.randn(batch, CONFIG.z_shape_dim), torch.randn(batch, CONFIG.z_appearance_dim)


def test_the_fixed_encoding_is_that_of_nerf_for_every_style():
    field = make_field(FIXED, impl="reference").double()
    points, w = torch.rand(2, 9, 3).double() * CONFIG.box_side, torch.randn(2, CONFIG.shape_style_dim).double()
    p = (points * 2 / CONFIG.box_side)[..., None] * math.pi * 2.0 ** torch.arange(OCTAVES)
    wanted = torch.stack([p.sin(), p.cos()], -1).flatten(2)
    # Frequencies up to 128 pi were rounded to float32 in the weights.
    torch.testing.assert_close(field.layers[0](points * field.point_scale, w), wanted, rtol=0, atol=1e-4)


def test_the_fixed_encoding_never_learns_and_the_rest_does():
    model = Generator(FIXED)
    for parameter in model.nerf_parameters():  # as the end of a stage with frozen NeRF
        parameter.requires_grad_(True)
    before = [p.clone() for p in model.field.layers[0].parameters()]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    out = model.render(*codes(2), Camera.sample(2), resolution=4, samples_per_ray=4)
    out.aux_image.square().sum().backward()
    optimizer.step()
    assert all(map(torch.equal, before, model.field.layers[0].parameters()))
    assert all(p.grad is None for p in model.field.layers[0].parameters())
    assert model.field.layers[1].weight.grad.abs().max() > 0
    assert len(model.nerf_parameters()) == len(Generator(CONFIG).nerf_parameters()) - 6


def test_view_directions_move_the_colours_alone():
    model = Generator(DIRECTED)
    films = model.field.films(torch.randn(1, CONFIG.shape_style_dim))
    points = torch.rand(1, 1, 3).expand(-1, 2, -1) * 0.1
    out = model.field(points, films, torch.nn.functional.normalize(torch.randn(1, 2, 3), dim=-1))
    assert torch.equal(out.density[0, 0], out.density[0, 1])
    assert not torch.allclose(out.features[0, 0], out.features[0, 1])


@pytest.mark.parametrize("config", [FIXED, DIRECTED], ids=["fixed", "directed"])
def test_variants_render_equally_fused_and_plain(config):
    models = {impl: Generator(config, impl=impl) for impl in ("reference", "auto")}
    models["auto"].load_state_dict(models["reference"].state_dict())
    inputs = *codes(2), Camera.sample(2, generator=torch.Generator().manual_seed(1))
    images = {
        impl: model.render(*inputs, 5, 4, generator=torch.Generator().manual_seed(2)).aux_image
        for impl, model in models.items()
    }
    torch.testing.assert_close(images["auto"], images["reference"], rtol=1e-3, atol=1e-4)


def test_normals_and_meshes_of_a_field_with_view_directions():
    model = Generator(DIRECTED)
    with torch.no_grad():
        model.field.density.weight.mul_(50)
    styles, camera = model.map(*codes(1)), Camera.from_angles(torch.full((1,), 1.5), 1.5)
    panels = view(model, *styles, camera, ("normal",), 4, SETTINGS, 9)
    assert panels["normal"].norm(dim=1).max() > 0.99
    rays = Rays(torch.tensor([[[0.0, 0.0, 1.0]]]), torch.tensor([[[0.0, 0.0, -1.0]]]))
    assert render_normals(model, model.field.films(torch.zeros(1, CONFIG.shape_style_dim)), rays, SETTINGS).shape == (
        1,
        1,
        3,
    )
    mesh = extract_mesh(model, styles[0], resolution=8, step=0.01)
    assert len(mesh.colours) == len(mesh.vertices) > 0


@pytest.mark.parametrize("config", [FIXED, DIRECTED], ids=["fixed", "directed"])
def test_variants_have_no_official_form(config):
    model = Generator(dataclasses.replace(config, inr_blocks=4, rgb_blocks=(3,), skip_blocks=()))
    with pytest.raises(ValueError, match="learnable positional encoding and no view directions"):
        export_official(model)
