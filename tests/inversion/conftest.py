"""A small model that was not trained but has colours, shapes and a field that is smooth enough to descend on."""

import math

import pytest
import torch

from cips3d.config.training import CameraConfig, RenderConfig
from cips3d.models import Generator, GeneratorConfig
from cips3d.training.trained import TrainedModel

SIDE = 8


@pytest.fixture(scope="session")
def model() -> TrainedModel:
    torch.manual_seed(1)
    generator = Generator(
        GeneratorConfig(
            z_shape_dim=6,
            shape_style_dim=6,
            shape_mapping_layers=2,
            z_appearance_dim=5,
            appearance_style_dim=8,
            appearance_mapping_layers=2,
            field_width=16,
            colour_width=12,
            feature_dim=8,
            inr_width=16,
            inr_blocks=2,
            rgb_blocks=(0, 1),
            skip_blocks=(1,),
        )
    )
    with torch.no_grad():
        generator.field.layers[0].weight.mul_(0.8)  # longer waves: wider valleys
        for layer in (*generator.field.layers, generator.field.colour):  # poses are to be seen whatever the style
            layer.gamma.weight.mul_(0.3)
            layer.beta.weight.mul_(0.3)
        generator.field.density.bias.fill_(10.0)
        for head in generator.inr.to_rgb.values():
            head.weight.mul_(60)
    camera = CameraConfig(math.pi / 2, 0.3, math.pi / 2, 0.155, "gaussian", 12.0)
    render = RenderConfig(samples_per_ray=4, hierarchical=True, density_noise_steps=0)
    return TrainedModel(generator.eval().requires_grad_(False), camera, render, SIDE)
