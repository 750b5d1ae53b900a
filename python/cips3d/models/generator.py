"""The generator of CIPS-3D: mapping networks, a shallow NeRF for shape, a per-pixel INR for appearance."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from cips3d.models.base import BaseGenerator
from cips3d.models.generator_config import GeneratorConfig
from cips3d.models.mapping import MappingNetwork
from cips3d.render.draws import Draws
from cips3d.render.field import make_field, raw_density
from cips3d.render.inr import Inr
from cips3d.render.rays import Camera, Rays
from cips3d.render.volume import VolumeSettings, render_features
from cips3d_ext import Films, RenderRaysOutput, SirenFieldOutput

AUX_INIT_DIVISOR = 25.0  # auxiliary pictures start almost grey


class Generator(BaseGenerator):
    """Images from a shape code, an appearance code and a camera (paper section 3; official `GeneratorNerfINR`)."""

    config: GeneratorConfig

    def __init__(self, config: GeneratorConfig, impl: str = "auto") -> None:
        super().__init__(config, impl)
        self.appearance_layers = config.inr_blocks
        self.shape_mapping = MappingNetwork(
            config.z_shape_dim, config.shape_style_dim, config.shape_mapping_layers, layer_norm=False
        )
        self.appearance_mapping = MappingNetwork(
            config.z_appearance_dim, config.appearance_style_dim, config.appearance_mapping_layers, layer_norm=True
        )
        self.field = make_field(config, impl)
        self.inr = Inr(
            config.feature_dim,
            config.inr_width,
            config.inr_blocks,
            config.appearance_style_dim,
            config.rgb_blocks,
            config.skip_blocks,
            impl,
        )
        self.aux_rgb = nn.Linear(config.feature_dim, 3)
        bound = math.sqrt(6 / config.feature_dim) / AUX_INIT_DIVISOR
        nn.init.uniform_(self.aux_rgb.weight, -bound, bound)

    def map_shape(self, z_shape: Tensor, pose: Camera | None = None) -> Tensor:
        return self.shape_mapping(z_shape)

    def map_appearance(self, z_appearance: Tensor) -> Tensor:
        return self.appearance_mapping(z_appearance)

    def field_of(self, w_shape: Tensor, noise: tuple[Tensor, ...] | None = None) -> Films:
        return self.field.films(w_shape)

    def painter_of(self, w_shape: Tensor, w_appearance: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The styles of the INR's blocks, w_appearance [B,W'] or of each block [B,K,W']."""
        return self.inr.styles(w_appearance)

    def trace(self, field: Films, rays: Rays, draws: Draws, settings: VolumeSettings) -> RenderRaysOutput:
        return render_features(self.field, field, rays, draws, settings)

    def query(self, field: Films, points: Tensor, directions: Tensor | None = None) -> SirenFieldOutput:
        return self.field(points, field, directions if self.field.view_directions else None)

    def density(self, field: Films, points: Tensor) -> Tensor:
        return raw_density(self.field, field, points)

    def colours(self, painter: list[tuple[Tensor, Tensor]], feature: Tensor) -> Tensor:
        return self.inr(feature, painter)

    def nerf_colours(self, feature: Tensor) -> Tensor:
        """By the auxiliary head."""
        return torch.tanh(self.aux_rgb(feature))

    def mapping_parameters(self) -> list[nn.Parameter]:
        return [*self.shape_mapping.parameters(), *self.appearance_mapping.parameters()]

    def nerf_parameters(self) -> list[nn.Parameter]:
        """The parameters a stage with frozen NeRF leaves alone: shape mapping, field and auxiliary head.

        A fixed positional encoding is not among them: it is no parameter of any stage.
        """
        never = list(self.field.layers[0].parameters()) if self.config.positional_encoding == "fixed" else []
        ours = (p for part in (self.shape_mapping, self.field, self.aux_rgb) for p in part.parameters())
        return [p for p in ours if not any(p is other for other in never)]

    @torch.no_grad()
    def adjust_init(self, density_bias: float, density_gain: float, shape_gain: float) -> None:
        self.field.density.weight.mul_(density_gain)
        self.field.density.bias.add_(density_bias)
        cast(nn.Linear, self.shape_mapping.linears[-1]).weight.mul_(shape_gain)
