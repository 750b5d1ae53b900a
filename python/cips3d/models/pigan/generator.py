"""pi-GAN's generator (arXiv 2012.00926, figure 3; public code `ImplicitGenerator3d` with `SPATIALSIRENBASELINE`).

The public mapping network ends in a linear layer that gives all frequencies and phases. Here its rows are the `gamma`
and `beta` maps of the field's layers, so that a style is what that layer takes; both are the same function.
"""

from __future__ import annotations

import math
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from cips3d.models.base import BaseGenerator
from cips3d.models.pigan.config import PiganGeneratorConfig
from cips3d.render.draws import Draws
from cips3d.render.field import raw_density
from cips3d.render.rays import Camera, Rays
from cips3d.render.volume import VolumeSettings, render_field
from cips3d_ext import Films, FiLMSine, RenderRaysOutput, SirenField, SirenFieldOutput

LRELU_SLOPE = 0.2
COORDINATES, COLOURS = 3, 3
SINE_INIT_DIVISOR = 25.0  # weights uniform in +-sqrt(6 / inputs) / 25
STYLE_GAIN = 0.25  # of the layer that gives frequencies and phases: layers start close to no modulation


class PiganGenerator(BaseGenerator):
    """Images from one code and a camera: colours in [0,1] along the rays, integrated, are the picture."""

    config: PiganGeneratorConfig

    def __init__(self, config: PiganGeneratorConfig, impl: str = "auto") -> None:
        super().__init__(config, impl)
        widths = [config.z_shape_dim] + [config.shape_style_dim] * config.mapping_layers
        linears = [nn.Linear(i, o) for i, o in zip(widths[:-1], widths[1:], strict=True)]
        self.mapping = nn.Sequential(*(part for linear in linears for part in (linear, nn.LeakyReLU(LRELU_SLOPE))))
        self.field = SirenField(
            config.shape_style_dim,
            [config.field_width] * config.field_layers,
            config.field_width,
            COLOURS,
            view_directions=True,
            point_scale=2 / config.box_side,
            impl=impl,
        )
        self._initialise()

    def map_shape(self, z_shape: Tensor, pose: Camera | None = None) -> Tensor:
        return self.mapping(z_shape)

    def field_of(self, w_shape: Tensor, noise: tuple[Tensor, ...] | None = None) -> Films:
        return self.field.films(w_shape)

    def painter_of(self, w_shape: Tensor, w_appearance: Tensor) -> None:
        return None

    def trace(self, field: Films, rays: Rays, draws: Draws, settings: VolumeSettings) -> RenderRaysOutput:
        return render_field(partial(self.query, field), rays, draws, settings, impl=self.impl)

    def query(self, field: Films, points: Tensor, directions: Tensor | None = None) -> SirenFieldOutput:
        features, density = self.field(points, field, directions)
        return SirenFieldOutput(torch.sigmoid(features), density)

    def density(self, field: Films, points: Tensor) -> Tensor:
        return raw_density(self.field, field, points)

    def colours(self, painter: None, feature: Tensor) -> Tensor:
        return self.nerf_colours(feature)

    def nerf_colours(self, feature: Tensor) -> Tensor:
        """The integrated colours themselves."""
        return 2 * feature - 1

    def mapping_parameters(self) -> list[nn.Parameter]:
        """With the maps to frequencies and phases, which are the public mapping network's last layer."""
        return [*self.mapping.parameters(), *(p for affine in self._affines() for p in affine.parameters())]

    def nerf_parameters(self) -> list[nn.Parameter]:
        """All of them: there is nothing but the NeRF."""
        return list(self.parameters())

    @torch.no_grad()
    def adjust_init(self, density_bias: float, density_gain: float, shape_gain: float) -> None:
        self.field.density.weight.mul_(density_gain)
        self.field.density.bias.add_(density_bias)
        for affine in self._affines():
            affine.weight.mul_(shape_gain)

    def _sines(self) -> list[FiLMSine]:
        """The field's sine layers, colour last."""
        return [cast(FiLMSine, layer) for layer in (*self.field.layers, self.field.colour)]

    def _affines(self) -> list[nn.Linear]:
        return [affine for layer in self._sines() for affine in (layer.gamma, layer.beta)]

    @torch.no_grad()
    def _initialise(self) -> None:
        """The public code's initial weights; biases stay PyTorch's."""
        for layer in (*self.mapping, *self._affines()):
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, a=LRELU_SLOPE)
        for affine in self._affines():
            affine.weight.mul_(STYLE_GAIN)
        nn.init.uniform_(self._sines()[0].weight, -1 / COORDINATES, 1 / COORDINATES)
        assert self.field.feature is not None
        for linear in (self.field.density, self.field.feature):
            bound = math.sqrt(6 / linear.in_features) / SINE_INIT_DIVISOR
            nn.init.uniform_(linear.weight, -bound, bound)
