"""pi-GAN's discriminator: sizes, fading in, coordinates, second derivatives, errors."""

import pytest
import torch
import torch.nn.functional as F

from cips3d.models.pigan import PiganDiscriminator, PiganDiscriminatorConfig
from cips3d.models.pigan.discriminator import CoordConv2d
from cips3d.training.losses import r1_gradient_norm

CONFIG = PiganDiscriminatorConfig(channels=(6, 5, 4, 3))  # feature maps of side 2, 4, 8, 16


@pytest.fixture
def model():
    torch.manual_seed(0)
    return PiganDiscriminator(CONFIG)


def test_coordinates_run_from_side_to_side():
    conv = CoordConv2d(1, 2, 1)
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias.zero_()
        conv.weight[0, 1], conv.weight[1, 2] = 1, 1  # x, y
        x, y = conv(torch.zeros(1, 1, 3, 5))[0]
    torch.testing.assert_close(x, torch.linspace(-1, 1, 5).expand(3, 5))
    torch.testing.assert_close(y, torch.linspace(-1, 1, 3)[:, None].expand(3, 5))


@pytest.mark.parametrize("side", [4, 8, 16])
def test_every_size_has_logits(model, side):
    assert model(torch.randn(3, 3, side, side)).shape == (3, 1)


def test_the_newest_layers_fade_in(model):
    """At alpha 0 the newest block is not seen: the rest is the smaller image's own way."""
    x = torch.randn(2, 3, 16, 16)
    half = F.interpolate(x, scale_factor=0.5, mode="nearest")
    torch.testing.assert_close(model(x, alpha=0.0), model(half))
    between = torch.stack([model(x, alpha=a) for a in (0.0, 0.5, 1.0)])
    assert not torch.allclose(between[1], between[0]) and not torch.allclose(between[1], between[2])


def test_without_coordinates_fewer_weights():
    """The authors' discriminator of cats."""
    plain = PiganDiscriminator(PiganDiscriminatorConfig(channels=CONFIG.channels, coordinates=False))
    assert plain.blocks["16"].first.in_channels == 3
    assert PiganDiscriminator(CONFIG).blocks["16"].first.in_channels == 5


def test_the_penalty_has_gradients(model):
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    r1_gradient_norm(model(x), x).mean().backward()
    assert model.blocks["8"].first.weight.grad.abs().max() > 0


def test_errors_name_the_way_out(model):
    with pytest.raises(ValueError, match=r"S one of 4, 8, 16, got \[1, 3, 32, 32\]"):
        model(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="at least two"):
        PiganDiscriminatorConfig(channels=(4,))
