"""A public state dict gives the picture that the public network gives, restated in `restated.py`."""

import importlib.util
from pathlib import Path

import pytest
import torch

from cips3d.config import ConfigError
from cips3d.models.volumegan import public
from cips3d.render import Camera, Draws, camera_rays
from cips3d.training.trained import load_model

_spec = importlib.util.spec_from_file_location("restated", Path(__file__).with_name("restated.py"))
restated = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(restated)

SAMPLES, NERF_SIDE, SIDE = 5, 4, 16


@pytest.fixture
def state():
    torch.manual_seed(0)
    return restated.random_state()


def inputs():
    source = torch.Generator().manual_seed(1)
    z = torch.randn(2, 5, generator=source, dtype=torch.float64)
    camera = Camera.sample(2, generator=source, dtype=torch.float64)
    jitter, u = torch.rand(2, 2, NERF_SIDE**2, SAMPLES, generator=source, dtype=torch.float64)
    return z, camera, jitter, u


@pytest.mark.parametrize("rgb_head", [False, True])
@pytest.mark.parametrize("impl", ["reference", "auto"])
def test_picture_of_a_public_state_dict(state, rgb_head, impl):
    if rgb_head:
        state["synthesis.rgb_init_res.weight"] = torch.randn(3, 6, 1, 1, dtype=torch.float64)
        state["synthesis.rgb_init_res.bias"] = torch.randn(3, dtype=torch.float64)
    z, camera, jitter, u = inputs()
    rays = camera_rays(camera, NERF_SIDE)
    wanted = restated.picture(state, z, rays.origins, rays.directions, jitter, u)
    assert public.reads(state)
    generator = public.load(state, impl)
    with torch.no_grad():
        drawn = {"draws": Draws(jitter=jitter, u=u), "resolution": SIDE, "samples_per_ray": SAMPLES}
        image = generator.render(z, z[:, :0], camera, **drawn).image
    assert wanted.std() > 0.1
    torch.testing.assert_close(image, wanted, rtol=1e-9, atol=1e-9)


def test_truncation_goes_to_the_public_mean(state):
    generator = public.load(state)
    z = inputs()[0]
    w_shape, w_appearance = generator.map(z, z[:, :0], truncation_psi=0.0)
    torch.testing.assert_close(w_shape, state["w_avg"].expand(2, -1))
    torch.testing.assert_close(w_appearance, w_shape)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("nerfmlp.fg_color.weight"), "lacks 'nerfmlp.fg_color.weight'"),
        (lambda s: s.pop("synthesis.layer3.bias"), "not the state dict of a VolumeGAN.*upsampling.bias"),
        (lambda s: s.update({"synthesis.lod": torch.tensor(2.0)}), "lod is 2.*wanted 0"),
        (lambda s: s.update({"synthesis.filter": torch.ones(4, 4)}), "synthesis.filter must be the low-pass"),
        (lambda s: s.update({"synthesis.layer9.bias": torch.ones(4)}), "not the state dict of a VolumeGAN.*blocks.4"),
    ],
)
def test_what_does_not_fit_is_named(state, change, message):
    change(state)
    with pytest.raises(ValueError, match=message):
        public.load(state)


def test_commands_read_the_state_dict_and_refuse_the_checkpoint(state, tmp_path):
    small = {key: value.float() for key, value in state.items()}
    torch.save(small, tmp_path / "volumegan.pth")
    model = load_model(tmp_path / "volumegan.pth")
    assert model.generator.config.model == "volumegan" and model.camera.fov_deg == 12 and model.resolution == 256
    torch.save(
        {"model_kwargs_init": {"generator_smooth": {}}, "models": {"generator_smooth": small}}, tmp_path / "c.pth"
    )
    with pytest.raises(ConfigError, match=r"torch.save\(c\['models'\]\['generator_smooth'\]"):
        load_model(tmp_path / "c.pth")
