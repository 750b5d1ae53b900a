"""Public pi-GAN weights: the layers of the public code stated afresh, and our generator with their state dict."""

import pytest
import torch
from torch import nn

from cips3d.models.pigan import public
from cips3d.models.public import load_public

Z, HIDDEN, LAYERS, MAP = 6, 8, 3, 256


class Film(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, x, frequency, phase):
        return torch.sin(frequency[:, None] * self.layer(x) + phase[:, None])


class Maps(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        sizes, parts = (Z, MAP, MAP, MAP), []
        for i, o in zip(sizes[:-1], sizes[1:], strict=True):
            parts += [nn.Linear(i, o), nn.LeakyReLU(0.2)]
        self.network = nn.Sequential(*parts, nn.Linear(MAP, outputs))

    def forward(self, z):
        return self.network(z).chunk(2, -1)


class Siren(nn.Module):
    """What `SPATIALSIRENBASELINE` computes, with its names."""

    def __init__(self):
        super().__init__()
        self.network = nn.ModuleList(Film(3 if k == 0 else HIDDEN, HIDDEN) for k in range(LAYERS))
        self.final_layer = nn.Linear(HIDDEN, 1)
        self.color_layer_sine = Film(HIDDEN + 3, HIDDEN)
        self.color_layer_linear = nn.Sequential(nn.Linear(HIDDEN, 3), nn.Sigmoid())
        self.mapping_network = Maps((LAYERS + 1) * HIDDEN * 2)

    def forward(self, points, z, directions):
        frequencies, phases = self.mapping_network(z)
        frequencies, x = frequencies * 15 + 30, points * (2 / 0.24)
        parts = list(zip(frequencies.split(HIDDEN, -1), phases.split(HIDDEN, -1), strict=True))
        for layer, part in zip(self.network, parts, strict=False):
            x = layer(x, *part)
        colour = self.color_layer_sine(torch.cat([directions, x], -1), *parts[-1])
        return self.color_layer_linear(colour), self.final_layer(x)[..., 0]


class ImplicitGenerator3d(nn.Module):
    """A pickle of this name is the public code's."""

    def __init__(self):
        super().__init__()
        self.siren = Siren()


@pytest.fixture
def theirs():
    torch.manual_seed(0)
    return ImplicitGenerator3d().double()  # sines of 30 x magnify rounding


@pytest.mark.parametrize("prefix", ["siren.", ""], ids=["generator", "siren alone"])
def test_values_are_those_of_the_public_layers(theirs, prefix):
    state = {prefix + key.removeprefix("siren."): value for key, value in theirs.state_dict().items()}
    ours = public.load(state)
    assert (ours.config.field_layers, ours.config.field_width, ours.config.mapping_layers) == (LAYERS, HIDDEN, 3)
    z, points = torch.randn(2, Z).double(), 0.24 * (torch.rand(2, 9, 3).double() - 0.5)
    directions = nn.functional.normalize(torch.randn(2, 9, 3).double(), dim=-1)
    rgb, sigma = theirs.siren(points, z, directions)
    features, density = ours.query(ours.field_of(ours.map_shape(z)), points, directions)
    torch.testing.assert_close(features, rgb)
    torch.testing.assert_close(density, sigma)


def test_files_are_recognised_and_shown_as_celeba(theirs, tmp_path):
    torch.save(theirs.state_dict(), tmp_path / "pigan.pth")
    generator, model = load_public(tmp_path / "pigan.pth")
    assert generator.config.model == "pigan" and model.preset == "pigan_celeba"


def test_pickles_are_not_read_and_the_way_out_is_told(theirs, tmp_path):
    torch.save(theirs, tmp_path / "generator.pth")
    with pytest.raises(ValueError, match=r"pickle of pi-GAN's code.*e\.copy_to"):
        load_public(tmp_path / "generator.pth")


def test_wrong_shapes_are_named(theirs):
    state = theirs.state_dict()
    state["siren.mapping_network.network.6.weight"] = state["siren.mapping_network.network.6.weight"][:-1]
    with pytest.raises(ValueError, match=r"mapping_network\.network\.6\.weight must have 64 rows"):
        public.load(state)
    del state["siren.final_layer.weight"]
    with pytest.raises(ValueError, match=r"lacks 'final_layer\.weight'"):
        public.load(state)
