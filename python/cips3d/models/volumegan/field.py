"""The feature field: the volume's descriptor of a point and the point's encoding through a style-modulated MLP."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from cips3d.models.discriminator import EqualLinear
from cips3d.models.volumegan.config import VolumeganGeneratorConfig
from cips3d.models.volumegan.layers import ModulatedLayer, encode_positions
from cips3d.models.volumegan.volume import FeatureVolume
from cips3d_ext import SirenFieldOutput, sample_volume


class Shape(NamedTuple):
    """What the field needs of an image's style, computed once an image."""

    volume: Tensor | None  # [B,C,S,S,S]
    styles: list[Tensor]  # of each layer, [B,I]


class VolumeField(nn.Module):
    """Points -> features and density (public `NeRFSynthesisNetwork`).

    The paper calls it a SIREN with FiLM. The public code, which this follows, has no sine but in the positional
    encoding: its layers are StyleGAN2's modulated ones, with leaky ReLU.
    """

    def __init__(self, config: VolumeganGeneratorConfig, impl: str = "auto") -> None:
        super().__init__()
        self.octaves, self.impl = config.octaves, impl
        w_dim, width = config.shape_style_dim, config.field_width
        self.volume = (
            FeatureVolume(w_dim, config.volume_side, config.volume_channels, config.volume_base_channels)
            if config.volume_channels
            else None
        )
        widths = [config.volume_channels + 3 + 6 * config.octaves] + [width] * config.field_layers
        self.layers = nn.ModuleList(
            ModulatedLayer(i, o, w_dim, impl=impl) for i, o in zip(widths[:-1], widths[1:], strict=True)
        )
        self.density = EqualLinear(width, 1)
        self.feature = EqualLinear(width, config.feature_dim)
        self.corners = config.volume_low, config.volume_high

    def shape(self, w: Tensor) -> Shape:
        """Of styles w [B,W], or [B,L,W] of each layer; the volume takes the first layer's."""
        each = w.unbind(1) if w.ndim == 3 else [w] * len(self.layers)
        styles = [cast(ModulatedLayer, layer).style(mine) for layer, mine in zip(self.layers, each, strict=True)]
        return Shape(None if self.volume is None else self.volume(each[0]), styles)

    def forward(self, shape: Shape, points: Tensor) -> SirenFieldOutput:
        """Features [B,N,C] and raw density [B,N], 1/length, at points [B,N,3] in world units."""
        hidden = self._hidden(shape, points)
        return SirenFieldOutput(self.feature(hidden), self.density(hidden).squeeze(-1))

    def raw_density(self, shape: Shape, points: Tensor) -> Tensor:
        """The density alone, [B,*] at points [B,*,3]."""
        return self.density(self._hidden(shape, points.flatten(1, -2))).view(points.shape[:-1])

    def _hidden(self, shape: Shape, points: Tensor) -> Tensor:
        x = encode_positions(points, self.octaves)
        if shape.volume is not None:
            low, high = (points.new_tensor(corner) for corner in self.corners)
            places = (points - low) / (high - low) * 2 - 1
            descriptors = sample_volume(shape.volume, places, align_corners=True, padding="border", impl=self.impl)
            x = torch.cat([descriptors.to(x.dtype), x], -1)
        for layer, style in zip(self.layers, shape.styles, strict=True):
            x = layer(x, style)
        return x
