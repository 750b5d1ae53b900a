"""Optional loss terms: values by hand, whom their gradients reach, nothing changed when off, the encoder's state."""

import copy
import math
from functools import partial

import pytest
import torch

from cips3d.config import ConfigError
from cips3d.data import TrainingBatches
from cips3d.models.vgg import Vgg16Features
from cips3d.render import Camera
from cips3d.render.field import raw_density
from cips3d.training import regularisers
from cips3d.training.loop import open_images
from cips3d.training.regularisers import (
    Regularisers,
    density_and_gradient,
    density_variation,
    eikonal,
    normal_variation,
    perceptual_distance,
)
from cips3d.training.trainer import Trainer
from cips3d_ext import SirenField

CPU = torch.device("cpu")


@pytest.fixture
def make(tiny, monkeypatch):
    """A trainer of the tiny configuration with overrides; a few points for each head."""
    monkeypatch.setattr(regularisers, "POINTS", 20)

    def trainer(*assignments):
        config = tiny("schedule.stages=[{resolution: 8}]", *assignments)
        return Trainer(config, TrainingBatches(open_images(config), config.optimizer.batch_size, config.seed), CPU)

    return trainer


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    torch.save(Vgg16Features().state_dict(), path)
    return path


def test_field_terms_by_hand():
    density = torch.tensor([[[3.0, -1.0], [1.0, 4.0]]])  # [1,2,P]: two points, their neighbours
    assert density_variation(density).item() == pytest.approx((2 + 5) / 2)
    gradient = torch.zeros(1, 2, 2, 3)
    gradient[0, 0, 0, 0], gradient[0, 1, 0, 1] = 2.0, 7.0  # normals x and y: |x - y|^2 = 2
    gradient[0, 0, 1, 2], gradient[0, 1, 1, 2] = 1.0, -1.0  # z and -z: 4
    assert normal_variation(density, gradient).item() == pytest.approx(2 / 2)  # the second point is in empty space
    assert normal_variation(density + 2, gradient).item() == pytest.approx((2 + 4) / 2)
    assert eikonal(gradient[:, 0], slope=4.0).item() == pytest.approx(((2 / 4 - 1) ** 2 + (1 / 4 - 1) ** 2) / 2)


def test_perceptual_distance_by_hand():
    a, b = torch.full((1, 3, 2, 2), 0.5), torch.zeros(1, 3, 2, 2)
    assert perceptual_distance(lambda x: [x, 2 * x], a, b).item() == pytest.approx(0.25 + 1.0)


def test_gradients_of_gradients_are_those_of_the_reference():
    """In float64; and the gradient itself is the difference quotient of the density."""
    torch.manual_seed(0)
    fused = SirenField(4, [6, 5], 4, 3, point_scale=2 / 0.24, impl="fused").double()
    reference = SirenField(4, [6, 5], 4, 3, point_scale=2 / 0.24, impl="reference").double()
    reference.load_state_dict(fused.state_dict())
    w = torch.randn(2, 4, dtype=torch.float64)
    points = 0.24 * (torch.rand(2, 2, 9, 3, dtype=torch.float64) - 0.5)

    def penalty_and_gradients(field):
        density, gradient = density_and_gradient(partial(raw_density, field, field.films(w)), points)
        total = normal_variation(density + 10, gradient) + eikonal(gradient[:, 0], 30.0)
        names = dict(field.named_parameters())
        found = torch.autograd.grad(total, list(names.values()), allow_unused=True)
        return gradient.detach(), total.detach(), dict(zip(names, found, strict=True))

    gradient, total, ours = penalty_and_gradients(fused)
    wanted_gradient, wanted, theirs = penalty_and_gradients(reference)
    torch.testing.assert_close(gradient, wanted_gradient)
    torch.testing.assert_close(total, wanted)
    reached = {name for name, value in ours.items() if value is not None and value.any()}
    assert reached == {name for name, value in theirs.items() if value is not None and value.any()}
    # The raw density's offset has no slope; colours have no part in it.
    assert reached == {name for name in ours if name.startswith("layers") or name == "density.weight"}
    for name in reached:
        torch.testing.assert_close(ours[name], theirs[name])

    step = 1e-6
    with torch.no_grad():
        ahead, behind = points.clone(), points.clone()
        ahead[..., 1] += step
        behind[..., 1] -= step
        films = fused.films(w)
        quotient = (raw_density(fused, films, ahead) - raw_density(fused, films, behind)) / (2 * step)
    torch.testing.assert_close(gradient[..., 1], quotient, rtol=1e-6, atol=1e-6)


def penalty_of(trainer):
    codes = trainer.sample_inputs()
    rendered = trainer.render(None, codes)
    return trainer.regularisers(trainer.generator, codes, rendered, trainer.rng), codes, rendered


def parts_reached(trainer, total):
    """The parts of the generator that a gradient of `total` reaches."""
    names = dict(trainer.generator.named_parameters())
    found = torch.autograd.grad(total, list(names.values()), allow_unused=True, retain_graph=True)
    return {name.split(".")[0] for name, value in zip(names, found, strict=True) if value is not None and value.any()}


ALL = {"shape_mapping", "appearance_mapping", "field", "inr", "aux_rgb"}


@pytest.mark.parametrize(
    "name, reached",
    [
        ("pose", ALL - {"aux_rgb"}),
        ("style", ALL - {"aux_rgb"}),
        ("perceptual", ALL),
        ("density", {"shape_mapping", "field"}),
        ("normal", {"shape_mapping", "field"}),
        ("eikonal", {"shape_mapping", "field"}),
    ],
)
def test_each_term_reaches_its_parameters_and_is_weighed_and_logged(make, vgg_file, name, reached):
    network = [f"regularisers.perceptual_network={vgg_file}"] if name == "perceptual" else []
    # A denser field, in which some points have matter.
    trainer = make(f"regularisers.{name}_weight=0.5", "init.density_bias=1", "init.density_gain=10", *network)
    penalty, _, _ = penalty_of(trainer)
    assert list(penalty.terms) == [name] and penalty.terms[name].item() > 0
    torch.testing.assert_close(penalty.total, 0.5 * penalty.terms[name])
    assert parts_reached(trainer, penalty.total) == reached
    before = {k: v.clone() for k, v in trainer.generator.state_dict().items()}
    scalars = trainer.iterate()
    assert scalars[f"regulariser_{name}"] > 0
    assert any(not torch.equal(v, before[k]) for k, v in trainer.generator.state_dict().items())


def test_the_penalty_is_part_of_the_step(make):
    """A weight so large that Adam's signs are the penalty's: the density's slopes shrink."""
    trainer = make("regularisers.density_weight=1e6", "optimizer.g_lr=1e-3")
    values = [trainer.iterate()["regulariser_density"] for _ in range(8)]
    assert values[-1] < values[0]


def test_pose_and_style_are_the_encoders_errors(make):
    trainer = make("regularisers.pose_weight=2", "regularisers.style_weight=3")
    penalty, codes, rendered = penalty_of(trainer)
    told, pose = trainer.regularisers.encoder(rendered.image), codes.camera.pitch_yaw
    yaw, pitch = (pose[:, 1] - math.pi / 2) / 0.3, (pose[:, 0] - math.pi / 2) / 0.155
    expected = torch.stack([(told[:, 0] - yaw).square(), (told[:, 1] - pitch).square()]).mean()
    torch.testing.assert_close(penalty.terms["pose"], expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(penalty.terms["style"], (told[:, 2:] - codes.z_appearance).square().mean())
    torch.testing.assert_close(penalty.total, 2 * penalty.terms["pose"] + 3 * penalty.terms["style"])


def test_angles_are_standardised(tiny):
    config = tiny("camera.pitch_std=0", "regularisers.pose_weight=1")
    camera = Camera.from_angles(torch.tensor([math.pi / 2 + 0.3, math.pi / 2 - 0.6]), math.pi / 2)
    angles = Regularisers(config, CPU)._angles(camera)
    torch.testing.assert_close(angles, torch.tensor([[1.0, 0.0], [-2.0, 0.0]]), rtol=0, atol=1e-5)


def untimed(scalars):
    """The scalars of an iteration that equal iterations have in common."""
    return {name: value for name, value in scalars.items() if not name.startswith("seconds_")}


def test_off_changes_nothing(make, monkeypatch):
    """An iteration with all weights 0 is one without the hook, and draws the same numbers."""
    ours, without = make(), make()
    state = ours.rng.get_state()
    assert ours.regularisers(ours.generator, None, None, ours.rng) is None
    assert torch.equal(ours.rng.get_state(), state) and ours.regularisers.state_dict() == {}
    monkeypatch.setattr(without.regularisers, "learn", lambda: None)
    monkeypatch.setattr(type(without.regularisers), "__call__", lambda *_: None)
    expected = untimed(without.iterate())
    monkeypatch.undo()
    assert untimed(ours.iterate()) == expected
    assert torch.equal(ours.rng.get_state(), without.rng.get_state())
    for name, value in ours.generator.state_dict().items():
        assert torch.equal(value, without.generator.state_dict()[name]), name


def test_the_encoder_learns_and_is_resumed(make):
    weights = ("regularisers.pose_weight=1", "regularisers.density_weight=0.1")
    whole, resumed = make(*weights), make(*weights)
    before = {name: value.clone() for name, value in whole.regularisers.encoder.state_dict().items()}
    whole.iterate()
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    assert untimed(whole.iterate()) == untimed(resumed.iterate())
    after, theirs = (trainer.regularisers.encoder.state_dict() for trainer in (whole, resumed))
    assert all(torch.equal(value, theirs[name]) for name, value in after.items())
    assert any(not torch.equal(value, before[name]) for name, value in after.items())
    assert all(parameter.grad is None for parameter in whole.regularisers.encoder.parameters())
    old = {name: value for name, value in make().state_dict().items() if name != "regularisers"}
    make().load_state_dict(old)  # of a run from before there were any


def test_a_frozen_nerf_has_no_field_terms(make):
    frozen = "{resolution: 8, freeze_nerf: true, use_aux: false}"
    trainer = make(f"schedule.stages=[{frozen}]", "regularisers.density_weight=1", "regularisers.normal_weight=1")
    assert penalty_of(trainer)[0] is None
    assert not any(name.startswith("regulariser") for name in trainer.iterate())


def test_the_points_are_in_the_box_with_near_neighbours(make):
    trainer = make("regularisers.density_weight=1")
    points = trainer.regularisers._points(trainer.batch_size, torch.Generator().manual_seed(0))
    assert points.shape == (2, 2, 20, 3)
    assert points[:, 0].abs().max() <= 0.12 and points[:, 0].std() == pytest.approx(0.24 / math.sqrt(12), rel=0.2)
    assert (points[:, 0] - points[:, 1]).std() == pytest.approx(0.004 * 0.24, rel=0.2)


@pytest.mark.parametrize(
    "assignment, message",
    [
        ("regularisers.pose_weight=-1", "regularisers.pose_weight must be at least 0, got -1"),
        ("regularisers.eikonal_slope=0", "regularisers.eikonal_slope must be above 0, got 0"),
        ("regularisers.perceptual_weight=1", "perceptual_weight needs perceptual_network"),
    ],
)
def test_mistakes_in_the_configuration(tiny, assignment, message):
    with pytest.raises(ConfigError, match=message):
        tiny(assignment)


def test_a_feature_network_that_cannot_be_read(make):
    with pytest.raises(ConfigError, match="regularisers.perceptual_network: nowhere.pth is no state dict"):
        make("regularisers.perceptual_weight=1", "regularisers.perceptual_network=nowhere.pth")
