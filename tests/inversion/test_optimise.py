"""Pictures of a known head from a known pose are inverted; what is asked for is kept to."""

import math

import pytest
import torch

from cips3d.inversion import InversionSettings, invert, optimise
from cips3d.inversion.evaluate import cases
from cips3d.inversion.optimise import _shrunk, psnr

SHORT = InversionSettings(starts=2, search_steps=2, steps=2)


@pytest.fixture(scope="module")
def case(model):
    return next(cases(model, "generated", 1, 0))


def test_head_and_pose_of_an_own_picture(model, case):
    """The search begins half a radian and more away on one side, at 9 degrees on the other."""
    found = invert(model, case.image, InversionSettings(search_steps=40, steps=60), progress=False)
    pitch, yaw = found.camera.pitch_yaw[0].tolist()
    assert abs(yaw - case.yaw) < math.radians(2) and abs(pitch - case.pitch) < math.radians(2)
    assert abs(case.yaw - model.camera.yaw_mean) > math.radians(20)  # not where it would be found by not moving
    generator = model.generator
    generator.update_mean_styles()
    mean = model.style_views(generator.mean_w_shape, generator.mean_w_appearance, model.camera_at(torch.zeros(1)))
    assert found.l1 < 0.05 * (mean["inr"][0] - case.image).abs().mean()
    assert found.psnr > 45 and found.psnr == pytest.approx(psnr(found.image, case.image))
    again = model.style_views(*found.styles, found.camera)["inr"][0]
    assert torch.equal(again, found.image)


@pytest.mark.parametrize("space", ["w", "z"])
def test_equal_seeds_give_equal_results(model, case, space):
    a, b, c = (
        invert(model, case.image, InversionSettings(space, None, 2, 2, 2, seed=seed), progress=False)
        for seed in (1, 1, 2)
    )
    assert torch.equal(a.w_shape, b.w_shape) and torch.equal(a.camera.pitch_yaw, b.camera.pitch_yaw)
    assert torch.equal(a.w_shape, c.w_shape) == (space == "w")  # only codes are drawn


def test_a_given_pose_stays(model, case):
    settings = InversionSettings("w", (case.yaw, case.pitch), 5, 20, 40)
    found = invert(model, case.image, settings, progress=False)
    torch.testing.assert_close(found.camera.pitch_yaw, torch.tensor([[case.pitch, case.yaw]]), rtol=0, atol=1e-6)
    assert found.psnr > 30


def test_it_stops_where_nothing_is_gained(model, monkeypatch):
    generator, camera = model.generator, model.camera_at(torch.zeros(1))
    generator.update_mean_styles()
    target = model.style_views(generator.mean_w_shape, generator.mean_w_appearance, camera)["inr"][0]
    calls, render = [], optimise._render
    monkeypatch.setattr(optimise, "_render", lambda *words: calls.append(1) or render(*words))
    pose = model.camera.yaw_mean, model.camera.pitch_mean
    monkeypatch.setattr(optimise, "PATIENCE", 4)
    invert(model, target, InversionSettings(pose=pose, search_steps=60, steps=60), progress=False)
    assert len(calls) < 60


def test_tuning_moves_weights_of_a_copy(model):
    side = model.resolution
    target = torch.linspace(-1, 1, side).expand(3, side, side).clone()  # no head of this model
    before = {name: tensor.clone() for name, tensor in model.generator.state_dict().items()}
    plain = invert(model, target, SHORT, progress=False)
    settings = InversionSettings(starts=2, search_steps=2, steps=2, tune_steps=20)
    tuned = invert(model, target, settings, progress=False)
    assert tuned.psnr > plain.psnr + 1 and plain.model is model
    assert torch.equal(tuned.w_shape, plain.w_shape)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.generator.state_dict().items())
    assert not any(p.requires_grad for p in tuned.model.generator.parameters())


@pytest.mark.parametrize("side", [8, 16, 31])
def test_small_pictures_lie_as_the_cameras_pixels_do(side):
    """Edge to edge: a ramp over 64 pixels is a ramp over fewer, but where smoothing sees the border."""
    ramp = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    wanted = torch.linspace(-1, 1, side).expand(1, 3, side, side)
    torch.testing.assert_close(_shrunk(ramp, side)[..., 1:-1], wanted[..., 1:-1], rtol=0, atol=1e-5)
    assert torch.equal(_shrunk(ramp, 64), ramp)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": "x"}, "space must be one of w, z, got 'x'"),
        ({"starts": 0}, "starts must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"tune_steps": -1}, "tune_steps must be at least 0, got -1"),
        ({"pose": (math.nan, 1.0)}, "the pose must be two numbers"),
    ],
)
def test_settings_out_of_range(change, message):
    with pytest.raises(ValueError, match=message):
        InversionSettings(**change)


def test_a_target_of_another_size(model):
    with pytest.raises(ValueError, match=r"target must be \[3,8,8\], got \[3, 4, 4\]"):
        invert(model, torch.zeros(3, 4, 4))
