"""Blends lie between their models, mixed styles reach their blocks alone, walks pass through their codes."""

import dataclasses
import math

import pytest
import torch

from cips3d.config import build, load_preset
from cips3d.models import Generator, GeneratorConfig, export_official, load_official
from cips3d.models.editing import blend, mix_styles, walk
from cips3d.render import Camera, Draws

TINY = build(GeneratorConfig, load_preset("generator", "tiny"), "tiny")
CONFIG = dataclasses.replace(TINY, inr_blocks=3, rgb_blocks=(1, 2))
OFFICIAL = GeneratorConfig(field_width=8, colour_width=4, inr_width=8)
CAMERA = Camera.from_angles(torch.tensor([1.5, 1.2]), torch.tensor([1.4, 1.8]))
MOVING = ("inr.", "appearance_mapping.")


def transferred(base: Generator) -> Generator:
    """As after a transfer: another INR and appearance mapping over the same NeRF."""
    target = Generator(base.config)
    state = {name: value for name, value in base.state_dict().items() if not name.startswith(MOVING)}
    target.load_state_dict(target.state_dict() | state)
    return target


def image(model: Generator, w_appearance: torch.Tensor | None = None) -> torch.Tensor:
    codes = torch.randn(2, 4, generator=torch.Generator().manual_seed(0)), torch.ones(2, 4)
    w_shape, w = model.map(*codes)
    draws = Draws.none(samples=3)
    return model.synthesise(w_shape, w if w_appearance is None else w_appearance, CAMERA, 6, 3, draws=draws).image


@torch.no_grad()
def test_a_blend_is_its_models_at_the_ends_and_between_them_elsewhere():
    base = Generator(CONFIG)
    target, before = transferred(base), {name: value.clone() for name, value in base.state_dict().items()}
    assert torch.equal(image(blend(base, target, 0.0)), image(base))
    assert torch.equal(image(blend(base, target, 1.0)), image(target)) and not torch.equal(image(target), image(base))
    half = blend(base, target, 0.5).state_dict()
    for name, value in half.items():
        ours, theirs = before[name], target.state_dict()[name]
        torch.testing.assert_close(value, (ours + theirs) / 2 if name.startswith(MOVING) else ours)
        assert torch.equal(base.state_dict()[name], ours), "base stays"


@torch.no_grad()
def test_chosen_blocks_are_swapped_with_their_heads():
    base = Generator(CONFIG)
    base.update_mean_styles(10)
    target = Generator(CONFIG)  # another NeRF too, which must not come along
    swapped = blend(base, target, 1.0, [2])
    for name, value in swapped.state_dict().items():
        of_target = name.startswith(("inr.blocks.2.", "inr.to_rgb.2."))
        assert torch.equal(value, (target if of_target else base).state_dict()[name]), name
    assert swapped.mean_w_appearance is None, "its mean styles are its own"


@torch.no_grad()
def test_blocks_of_official_models_are_those_of_the_web_demo():
    states = [export_official(Generator(OFFICIAL)) for _ in range(2)]
    base, target = (load_official(state) for state in states)
    layers = tuple(
        f"inr_net.{part}.{size}." for part in ("network", "to_rgbs") for size in (32, 64, 128, 256, 512, 1024)
    )
    for name, value in export_official(blend(base, target, 0.3, range(3, 9))).items():
        ours, theirs = (state[name] for state in states)
        torch.testing.assert_close(value, torch.lerp(ours, theirs, 0.3) if name.startswith(layers) else ours)


def test_what_cannot_be_blended_is_an_error():
    base = Generator(CONFIG)
    with pytest.raises(ValueError, match="must have the same configuration"):
        blend(base, Generator(OFFICIAL), 0.5)
    with pytest.raises(ValueError, match=r"strength must be in \[0,1\], got 1.5"):
        blend(base, base, 1.5)
    with pytest.raises(ValueError, match=r"blend: blocks must be in 0 .. 2, got 3, -1"):
        blend(base, base, 0.5, [1, 3, -1])


@torch.no_grad()
def test_mixed_styles_reach_their_blocks_alone():
    model, (style, other) = Generator(CONFIG), torch.randn(2, 2, 8)
    assert torch.equal(image(model, mix_styles(style, other, [], 3)), image(model, style))
    assert torch.equal(image(model, mix_styles(style, other, range(3), 3)), image(model, other))
    mixed = mix_styles(style, other, [1], 3)
    for block, (ours, plain, theirs) in enumerate(
        zip(model.inr.styles(mixed), model.inr.styles(style), model.inr.styles(other), strict=True)
    ):
        for layer in range(2):
            assert torch.equal(ours[layer], (theirs if block == 1 else plain)[layer])
    with pytest.raises(ValueError, match=r"mix_styles: blocks must be in 0 .. 2, got 3"):
        mix_styles(style, other, [3], 3)
    with pytest.raises(ValueError, match=r"w_appearance must be \[B,8\]"):
        image(model, mixed[:, :2])


@pytest.mark.parametrize("spherical", [False, True])
def test_walks_pass_through_their_codes_and_close(spherical):
    codes = torch.randn(3, 5)
    torch.testing.assert_close(walk(codes, torch.tensor([0.0, 1.0, 2.0, 3.0]), spherical), codes[[0, 1, 2, 0]])
    steps = walk(codes, torch.linspace(0, 3, 301), spherical).diff(dim=0).norm(dim=1)
    assert steps.max() < 0.1  # without a jump
    same = walk(codes[[0, 0]], torch.tensor([0.5]), spherical)
    torch.testing.assert_close(same, codes[:1])


def test_walks_are_straight_or_arcs():
    codes = torch.eye(2)
    torch.testing.assert_close(walk(codes, torch.tensor([0.25]), False), torch.tensor([[0.75, 0.25]]))
    angle = math.pi / 8
    torch.testing.assert_close(
        walk(codes, torch.tensor([0.25]), True), torch.tensor([[math.cos(angle), math.sin(angle)]])
    )
