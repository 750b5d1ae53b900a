"""The reader of public state dicts against a restatement of the public generator with the same tensors."""

import dataclasses
import pickle
import sys
import types
from typing import Any

import pytest
import torch
from torch import Tensor

from cips3d.models.eg3d import Eg3dGenerator, Eg3dGeneratorConfig, public
from cips3d.models.public import load_public
from cips3d.render.draws import Draws
from cips3d.render.labels import camera_labels
from cips3d.render.rays import Camera
from tests.models.eg3d import restated

RAW, SAMPLES = 4, 6
SMALL = Eg3dGeneratorConfig(
    z_shape_dim=6,
    shape_style_dim=8,
    plane_side=16,
    plane_channels=4,
    channel_base=64,
    channel_max=8,
    features=5,
    resolution=16,
    raw_side=RAW,
    raw_side_images=0,
    sr_start=4,
    sr_channels=(4, 3),
    sr_clamp=1.5,  # reached, so that it is seen
)


def public_state(config: Eg3dGeneratorConfig, seed: int = 0) -> dict[str, Tensor]:
    """Random tensors under the public names, with the buffers that only the public code has; float64."""
    torch.manual_seed(seed)
    generator = Eg3dGenerator(config).double()
    for name, parameter in generator.named_parameters():
        if name.endswith(("bias", "noise_strength")):
            torch.nn.init.normal_(parameter)
    state = {name: value.clone() for name, value in generator.state_dict().items()}
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    for block in ("backbone.synthesis.b8", "backbone.synthesis.b8.conv0", "superresolution.block0"):
        state[f"{block}.resample_filter"] = torch.outer(taps, taps) / 64
    state["backbone.mapping.w_avg"] = torch.randn(config.shape_style_dim, dtype=torch.float64)
    state["dataset_label_std"] = torch.ones(25)
    return state


def restated_rendering(config: Eg3dGeneratorConfig) -> restated.Rendering:
    return restated.Rendering(
        ray_start=config.ray_start,
        ray_end=config.ray_end,
        box_warp=config.box_warp,
        samples=SAMPLES,
        raw_side=config.raw_side,
        sr_start=config.sr_start,
        sr_up_first=config.resolution == 4 * config.sr_start,
        sr_clamp=config.sr_clamp,
    )


@pytest.mark.parametrize(
    "changes",
    [{}, {"resolution": 8}, {"raw_side": 3, "sr_clamp": None}, {"pose_conditioned": False, "mapping_layers": 3}],
    ids=["8X", "4X", "resized", "unconditioned"],
)
def test_images_equal_the_restated_public_generator(changes: dict[str, Any]) -> None:
    config = dataclasses.replace(SMALL, **changes)
    state = public_state(config)
    generator = public.load(state, "reference", config)
    yaw, pitch = torch.tensor([1.3, 1.8], dtype=torch.float64), torch.tensor([1.5, 1.7], dtype=torch.float64)
    camera = Camera.from_angles(yaw, pitch, fov_deg=20.0)
    pose = Camera.from_angles(yaw + 0.3, pitch - 0.2, fov_deg=20.0)
    z = torch.randn(2, 6, dtype=torch.float64)
    jitter, u = torch.rand(2, 2, config.raw_side**2, SAMPLES, dtype=torch.float64)
    labels, condition = (camera_labels(each, config.resolution, config.camera_radius) for each in (camera, pose))
    if not config.pose_conditioned:
        condition = torch.zeros_like(condition)
    wanted = restated.generate(state, z, condition, labels, restated_rendering(config), jitter, u)
    with torch.no_grad():
        out = generator.render(
            z,
            z[:, :0],
            camera,
            resolution=config.resolution,
            samples_per_ray=SAMPLES,
            pose=pose,
            draws=Draws(jitter=jitter, u=u),
        )
    torch.testing.assert_close(out.aux_image, wanted["image_raw"])
    expected = config.camera_radius * out.depth / out.weights.sum(-1).view_as(out.depth)
    torch.testing.assert_close(expected, wanted["image_depth"])
    torch.testing.assert_close(out.image, wanted["image"])
    assert out.image.std() > 0.1


def test_shapes_tell_widths_and_the_mean_style_is_kept() -> None:
    state = public_state(SMALL)
    generator = public.load(state, rendering=SMALL)
    assert generator.config == SMALL
    z = torch.randn(1, 6, dtype=torch.float64)
    styles, _ = generator.map(z, z[:, :0], truncation_psi=0.0)
    torch.testing.assert_close(styles[0], state["backbone.mapping.w_avg"])


def test_published_resolutions_have_the_published_rays() -> None:
    wide = Eg3dGeneratorConfig(
        z_shape_dim=2,
        shape_style_dim=2,
        plane_side=4,
        plane_channels=1,
        channel_base=4,
        channel_max=1,
        features=3,
        sr_channels=(1, 1),
        resolution=128,
        sr_start=64,
    )
    cars = public.load(public_state(wide)).config
    assert (cars.ray_start, cars.ray_end, cars.box_warp, cars.sr_start) == (0.1, 2.6, 1.6, 64)
    assert not cars.pose_conditioned
    faces = public.load(public_state(dataclasses.replace(wide, resolution=512, sr_start=128))).config
    assert (faces.ray_start, faces.ray_end, faces.box_warp, faces.sr_start) == (2.25, 3.3, 1.0, 128)
    assert faces.pose_conditioned and faces.raw_side == 128


def test_what_does_not_fit_is_named() -> None:
    state = public_state(SMALL)
    missing = {key: value for key, value in state.items() if key != "backbone.synthesis.b8.conv0.bias"}
    with pytest.raises(ValueError, match=r"backbone\.synthesis\.b8\.conv0\.bias"):
        public.load(missing, rendering=SMALL)
    with pytest.raises(ValueError, match=r"lacks 'backbone\.mapping\.embed\.weight'"):
        public.load({key: value for key, value in state.items() if "embed" not in key})
    state["superresolution.block0.resample_filter"] = torch.ones(4, 4) / 16
    with pytest.raises(ValueError, match=r"block0\.resample_filter: wanted the low-pass 1 3 3 1"):
        public.load(state, rendering=SMALL)


def test_keys_decide() -> None:
    assert public.reads(public_state(SMALL))
    assert not public.reads({"siren.net.0.weight": torch.zeros(1)})


class Harmless:
    """A class of another module in a pickle stands for the public code's."""


Harmless.__module__, Harmless.__qualname__ = "torch_utils.persistence", "_reconstruct_persistent_obj"


def test_a_pickle_of_the_public_code_is_refused_with_the_way_out(tmp_path, monkeypatch) -> None:
    module = types.ModuleType("torch_utils.persistence")
    module._reconstruct_persistent_obj = Harmless  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_utils", types.ModuleType("torch_utils"))
    monkeypatch.setitem(sys.modules, "torch_utils.persistence", module)
    file = tmp_path / "ffhq512-128.pkl"
    file.write_bytes(pickle.dumps({"G_ema": Harmless()}))
    with pytest.raises(ValueError, match="torch.save.legacy.load_network_pkl"):
        load_public(file)
