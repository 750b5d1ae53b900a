"""What all tests share."""

import math

import pytest
import torch

from cips3d.models import Generator, GeneratorConfig

BALL_RADIUS, BALL_SLOPE = 0.08, 1e5  # world units; growth of the density inwards at the surface, 1/length^2


@pytest.fixture(autouse=True)
def _same_random_numbers():
    """Whatever ran before: a test's random numbers do not depend on the order of tests."""
    torch.manual_seed(0)


@pytest.fixture
def ball() -> Generator:
    """A generator whose density is, for every code, an opaque ball of BALL_RADIUS around the origin.

    density = c * (sum_k cos(a x_k) - 2 - cos(a radius)), which is 0 at `radius` on the axes and within 0.3 % of it
    between them, because a * radius is a third.
    """
    model = Generator(
        GeneratorConfig(
            field_layers=1, field_width=16, colour_width=8, inr_width=8, inr_blocks=1, rgb_blocks=(0,), skip_blocks=()
        )
    )
    field, layer = model.field, model.field.layers[0]
    frequency, gain = 1 / (3 * BALL_RADIUS), field.scales["gamma_offset"]
    with torch.no_grad():
        for parameter in [*layer.parameters(), *field.density.parameters()]:
            parameter.zero_()  # the gain of every sine is then gamma_offset
        for axis in range(3):
            layer.weight[axis, axis] = frequency / (field.point_scale * gain)
            layer.bias[axis] = math.pi / 2 / gain
        scale = BALL_SLOPE / (frequency * math.sin(frequency * BALL_RADIUS))
        field.density.weight[0, :3] = scale
        field.density.bias.fill_(-scale * (2 + math.cos(frequency * BALL_RADIUS)))
    return model.eval()
