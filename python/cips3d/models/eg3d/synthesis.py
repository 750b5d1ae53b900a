"""StyleGAN2's synthesis network, which draws the three planes, and EG3D's super-resolution made of the same blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cips3d.models.eg3d.layers import StyledConv, ToColours
from cips3d.models.stylegan2 import upsample

SMALLEST = 4  # side of the constant that the picture grows from
RGB = 3

Noise = Iterator["Tensor | None"]  # one for each StyledConv, in the order of the forward pass


class Block(nn.Module):
    """One resolution: a constant, or a convolution of the last block's features, then another one, and colours.

    `in_channels` 0 starts with the constant; `upsample` doubles the side in the first convolution and of the image.
    Public: SynthesisBlock, without `upsample` SynthesisBlockNoUp.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        image_channels: int,
        impl: str,
        upsample: bool = True,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.upsample = upsample
        if in_channels:
            self.conv0 = StyledConv(in_channels, out_channels, w_dim, resolution, upsample, clamp)
        else:
            self.const = nn.Parameter(torch.randn(out_channels, resolution, resolution))
        self.conv1 = StyledConv(out_channels, out_channels, w_dim, resolution, clamp=clamp)
        self.torgb = ToColours(out_channels, image_channels, w_dim, clamp, impl)

    def convolutions(self) -> list[StyledConv]:
        return [self.conv0, self.conv1] if hasattr(self, "conv0") else [self.conv1]

    def forward(self, x: Tensor | None, image: Tensor | None, w: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Features and image of the block's side from those of the block before (None, None at the first), w [B,W]."""
        if x is None:
            x = self.const.expand(len(w), -1, -1, -1)
        for conv in self.convolutions():
            x = conv(x, w, next(noise))
        if image is not None and self.upsample:
            image = upsample(image)
        colours = self.torgb(x, w)
        return x, colours if image is None else image + colours


class Backbone(nn.Module):
    """w [B,W] -> image [B,C,R,R]; blocks b4, b8, ... bR of min(base / side, most) channels. Public: SynthesisNetwork.

    All layers get the same w: the public code's list of equal ws, which only its style mixing (off in all published
    runs) makes unequal.
    """

    def __init__(
        self, w_dim: int, resolution: int, image_channels: int, channel_base: int, channel_max: int, impl: str
    ) -> None:
        super().__init__()
        if resolution < SMALLEST or resolution & (resolution - 1):
            raise ValueError(f"eg3d: plane_side must be a power of two of at least {SMALLEST}, got {resolution}")
        width, side = 0, SMALLEST
        self.sides: list[int] = []
        while side <= resolution:
            wider = min(channel_base // side, channel_max)
            self.add_module(f"b{side}", Block(width, wider, w_dim, side, image_channels, impl))
            self.sides.append(side)
            width, side = wider, 2 * side

    @property
    def blocks(self) -> list[Block]:
        return [getattr(self, f"b{side}") for side in self.sides]

    def forward(self, w: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """`noise` [B,1,s,s] for each of `convolutions`, None: the buffers noise_const."""
        x = image = None
        drawn: Noise = iter(noise if noise is not None else [conv.noise_const for conv in self.convolutions()])
        for block in self.blocks:
            x, image = block(x, image, w, drawn)
        assert image is not None
        return image

    def convolutions(self) -> list[StyledConv]:
        return [conv for block in self.blocks for conv in block.convolutions()]


class SuperResolution(nn.Module):
    """Features [B,C,r,r], whose first three channels are the raw image, -> image [B,3,S,S] in about [-1,1].

    Resized to side `start`, then two blocks without noise: S = 4 start with an upsampling first block (the public
    SuperresolutionHybrid8X and 8XDC), S = 2 start without (2X and 4X). Raises ValueError for another S.
    """

    def __init__(
        self,
        features: int,
        channels: tuple[int, int],
        w_dim: int,
        start: int,
        resolution: int,
        clamp: float | None,
        impl: str,
    ) -> None:
        super().__init__()
        if resolution not in (2 * start, 4 * start):
            raise ValueError(
                f"eg3d: resolution must be 2 or 4 times sr_start, got resolution {resolution} and sr_start {start}"
            )
        first, second = channels
        self.start = start
        up = resolution == 4 * start
        self.block0 = Block(features, first, w_dim, resolution // 2, RGB, impl, upsample=up, clamp=clamp)
        self.block1 = Block(first, second, w_dim, resolution, RGB, impl, clamp=clamp)

    def forward(self, features: Tensor, w: Tensor) -> Tensor:
        if features.shape[-1] != self.start:
            features = resize(features, self.start)
        quiet: Noise = iter([None] * 4)
        x, image = self.block0(features, features[:, :RGB], w, quiet)
        return self.block1(x, image, w, quiet)[1]


def resize(images: Tensor, side: int) -> Tensor:
    """[B,C,H,W] -> [B,C,side,side], bilinear between pixel centres, low-passed where it shrinks (antialias)."""
    return F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
