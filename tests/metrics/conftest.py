"""Constructed fields: one that turns with its camera, and one whose picture flips where the yaw crosses the middle."""

import dataclasses

import pytest
import torch

from cips3d.config.training import load_training
from cips3d.render import Camera
from cips3d.training.trained import TrainedModel

SIDE = 32
BALL_RADIUS = 0.08  # of the fixture `ball`, world units


class FlippingModel(TrainedModel):
    """What the paper calls mirror symmetry: the view from the left is the mirror image of that from the right."""

    def views(self, z_shape, z_appearance, camera, panels, *rest, **options):
        pitch, yaw = camera.pitch_yaw.T
        middle = self.camera.yaw_mean
        right = Camera.from_angles(middle + (yaw - middle).abs(), pitch, camera.fov_deg)
        views = super().views(z_shape, z_appearance, right, panels, *rest, **options)
        left = (yaw < middle)[:, None, None, None]
        return {name: torch.where(left, panel.flip(-1), panel) for name, panel in views.items()}


@pytest.fixture
def painted_ball(ball):
    """An opaque ball with a pattern on it that differs from head to head and has no symmetry."""
    layer, free = ball.field.layers[0], slice(3, None)  # the ball itself is in the first three units
    across = ball.field.point_scale * ball.field.scales["gamma_offset"] * BALL_RADIUS  # the sine's phase over a radius
    with torch.no_grad():
        # Waves of a few periods across the ball; the density does not take them.
        layer.weight[free] = 2 * torch.randn_like(layer.weight[free]) / across
        for head in ball.inr.to_rgb.values():
            head.weight.mul_(300)  # at the initialisation pictures are almost grey
    config = load_training("tiny")
    return TrainedModel(ball, config.camera, dataclasses.replace(config.render, samples_per_ray=24), SIDE)


@pytest.fixture
def flipping_ball(painted_ball):
    return FlippingModel(painted_ball.generator, painted_ball.camera, painted_ball.render, SIDE)
