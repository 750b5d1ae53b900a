"""The textural representation made a picture: modulated 1x1 convolutions that double the side of the feature map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cips3d.models.discriminator import fused_leaky_relu
from cips3d.models.stylegan2 import upsample
from cips3d.models.volumegan.config import VolumeganGeneratorConfig
from cips3d.models.volumegan.layers import ModulatedLayer

COLOURS = 3


class RendererBlock(nn.Module):
    """[B,I,s,s] -> [B,O,2s,2s] and its colours: a layer that upsamples, then `layers` - 1 that do not.

    Each adds noise of a learned strength, the same for all channels. What is drawn once with the weights is in the
    state dict and serves where no noise is given.
    """

    constant: Tensor

    def __init__(self, in_channels: int, channels: int, side: int, w_dim: int, layers: int, impl: str) -> None:
        super().__init__()
        self.upsampling = ModulatedLayer(in_channels, channels, w_dim, "mixed", impl)
        self.layers = nn.ModuleList(ModulatedLayer(channels, channels, w_dim, impl=impl) for _ in range(layers - 1))
        self.colours = ModulatedLayer(channels, COLOURS, w_dim, "colours", impl)
        self.strength = nn.Parameter(torch.zeros(layers))
        self.register_buffer("constant", torch.randn(layers, side, side))
        self.side = side

    def styles(self, w: Sequence[Tensor]) -> list[Tensor]:
        """Of every layer, the colours last, from that many w [B,W]."""
        modules = [self.upsampling, *self.layers, self.colours]
        return [cast(ModulatedLayer, layer).style(each) for layer, each in zip(modules, w, strict=True)]

    def forward(self, x: Tensor, styles: Sequence[Tensor], noise: Sequence[Tensor] | None) -> tuple[Tensor, Tensor]:
        """Feature map and colours [B,3,2s,2s]; noise [B,2s,2s] of each layer."""
        given = [each[:, None] for each in (noise or self.constant[:, None])]  # [B or 1,1,2s,2s]
        added = [each * strength for each, strength in zip(given, self.strength, strict=True)]
        small = _as_map(self.upsampling(_as_rows(x), styles[0]), x.shape[-1])
        rows = _as_rows(fused_leaky_relu(upsample(small) + added[0].to(small.dtype), self.upsampling.bias))
        for layer, style, each in zip(self.layers, styles[1:-1], added[1:], strict=True):
            rows = layer(rows, style, each.flatten(2).mT)
        return _as_map(rows, self.side), _as_map(self.colours(rows, styles[-1]), self.side)


class NeuralRenderer(nn.Module):
    """A block for each doubling of the side (public `SynthesisNetwork`): image_S = colours_S + upsample(image_S/2)."""

    def __init__(self, config: VolumeganGeneratorConfig, impl: str = "auto") -> None:
        super().__init__()
        self.nerf_side, self.layers_a_side = config.nerf_side, config.renderer_layers
        widths = [config.feature_dim, *config.renderer_channels]
        self.blocks = nn.ModuleList(
            RendererBlock(i, o, config.nerf_side << (k + 1), config.shape_style_dim, config.renderer_layers, impl)
            for k, (i, o) in enumerate(zip(widths[:-1], widths[1:], strict=True))
        )
        with torch.no_grad():
            for block in self.blocks_for(config.max_side):
                block.colours.weight.mul_(config.colour_gain)

    def blocks_for(self, side: int) -> list[RendererBlock]:
        """The blocks of a picture of that side: none up to nerf_side. Raises ValueError for sides without layers."""
        if side < self.nerf_side:
            return []
        sides = [self.nerf_side << count for count in range(len(self.blocks) + 1)]
        if side not in sides:
            raise ValueError(
                f"volumegan draws pictures of side {', '.join(map(str, sides))}, or below {self.nerf_side} without its "
                f"neural renderer, got {side}"
            )
        return [cast(RendererBlock, block) for block in self.blocks][: sides.index(side)]

    def noise_shapes(self, side: int) -> tuple[tuple[int, ...], ...]:
        """Of the noise that a picture takes, without B: [S,S] for each layer."""
        return tuple((block.side, block.side) for block in self.blocks_for(side) for _ in range(self.layers_a_side))

    def styles(self, w: Tensor) -> list[list[Tensor]]:
        """Of every block from w [B,W], or [B,K,W] of each layer; a block's colours take the next block's first."""
        count = len(self.blocks) * self.layers_a_side + 1
        each = w.unbind(1) if w.ndim == 3 else [w] * count
        n = self.layers_a_side
        return [cast(RendererBlock, block).styles(each[k * n : k * n + n + 1]) for k, block in enumerate(self.blocks)]

    def forward(
        self,
        styles: Sequence[Sequence[Tensor]],
        x: Tensor,
        image: Tensor,
        side: int,
        noise: Sequence[Tensor] | None = None,
        alpha: float = 1.0,
    ) -> Tensor:
        """Picture [B,3,S,S] of a feature map x [B,C,s,s] and its own picture [B,3,s,s].

        noise [B,S,S] of each layer, or None for the constant one; alpha < 1 fades the last block in over the picture
        before it, whose pixels are repeated.
        """
        n = self.layers_a_side
        before = image
        for k, block in enumerate(self.blocks_for(side)):
            before = image
            x, colours = block(x, styles[k], noise[k * n : k * n + n] if noise else None)
            image = colours + upsample(image)
        if alpha < 1 and before is not image:
            image = alpha * image + (1 - alpha) * F.interpolate(before, scale_factor=2, mode="nearest")
        return image


def _as_rows(x: Tensor) -> Tensor:
    """[B,C,H,W] -> [B,H*W,C]."""
    return x.flatten(2).mT


def _as_map(rows: Tensor, side: int) -> Tensor:
    """[B,H*W,C] -> [B,C,H,W]."""
    return rows.mT.unflatten(2, (side, side))
