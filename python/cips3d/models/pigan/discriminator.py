"""pi-GAN's progressive discriminator (arXiv 2012.00926, section 3.3; public code `CCSDiscriminator`).

Residual blocks whose convolutions also see the coordinates of their pixels (CoordConv, arXiv 1807.03247); a size of
images has a layer of its own into the block of that size, and fades in over the one of half the size. The public
encoder that shares these layers is `regularisers.pose_weight`'s own network here.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cips3d.models.base_discriminator import BaseDiscriminator
from cips3d.models.pigan.config import SMALLEST_SIZE, PiganDiscriminatorConfig

LRELU_SLOPE = 0.2


class CoordConv2d(nn.Conv2d):
    """A convolution whose first inputs are followed by x and y, each from -1 to 1 over the pixels."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(in_channels + 2, out_channels, kernel, stride, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:  # [B,I,H,W] -> [B,O,H',W']
        down, right = (torch.linspace(-1, 1, side, dtype=x.dtype, device=x.device) for side in x.shape[2:])
        grid = torch.stack(torch.meshgrid(right, down, indexing="xy"))
        return super().forward(torch.cat([x, grid.expand(len(x), -1, -1, -1)], 1))


class ResidualBlock(nn.Module):
    """Two 3x3 layers beside a strided 1x1 one, halving the side: [B,I,H,W] -> [B,O,H/2,W/2]."""

    def __init__(self, in_channels: int, out_channels: int, coordinates: bool) -> None:
        super().__init__()
        if coordinates:
            self.first: nn.Conv2d = CoordConv2d(in_channels, out_channels, 3)
            self.second: nn.Conv2d = CoordConv2d(out_channels, out_channels, 3, stride=2)
        else:
            self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
            self.second = nn.Conv2d(out_channels, out_channels, 3, stride=2, padding=1)
        for conv in (self.first, self.second):
            nn.init.kaiming_normal_(conv.weight, a=LRELU_SLOPE)
        self.skip = nn.Conv2d(in_channels, out_channels, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.second(F.leaky_relu(self.first(x), LRELU_SLOPE)), LRELU_SLOPE)
        return (y + self.skip(x)) / math.sqrt(2.0)


class PiganDiscriminator(BaseDiscriminator):
    """Logits [B,1] of images of every power-of-two size from 4 to the configuration's largest."""

    def __init__(self, config: PiganDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        width = {SMALLEST_SIZE * 2**k: channels for k, channels in enumerate(config.channels)}
        self.from_rgb = nn.ModuleDict({str(side): nn.Conv2d(3, channels, 1) for side, channels in width.items()})
        self.blocks = nn.ModuleDict(
            {
                str(side): ResidualBlock(width[side], width[side // 2], config.coordinates)
                for side in width
                if side > SMALLEST_SIZE
            }
        )
        self.output = nn.Conv2d(config.channels[0], 1, SMALLEST_SIZE)

    def judge(self, images: Tensor, alpha: float, use_aux: bool, labels: Tensor | None) -> Tensor:
        """Of images [B,3,S,S]; alpha < 1 fades size S in over size S/2. Raises ValueError for a size without layers."""
        size = images.shape[-1]
        if images.ndim != 4 or images.shape[1:] != (3, size, size) or str(size) not in self.blocks:
            raise ValueError(
                f"discriminator: images must be [B,3,S,S] with S one of {', '.join(self.blocks)}, "
                f"got {list(images.shape)}; choose such a resolution or configure more channels"
            )
        x = self._read(images)
        while size > SMALLEST_SIZE:
            x = self.blocks[str(size)](x)
            size //= 2
            if alpha < 1.0 and size == images.shape[-1] // 2:
                half = F.interpolate(images, scale_factor=0.5, mode="nearest")
                x = alpha * x + (1.0 - alpha) * self._read(half)
        return self.output(x).flatten(1)

    def _read(self, images: Tensor) -> Tensor:
        return F.leaky_relu(self.from_rgb[str(images.shape[-1])](images), LRELU_SLOPE)
