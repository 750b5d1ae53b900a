"""The structural representation: a volume of features that 3D convolutions make of a learned constant and a style."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cips3d.models.discriminator import LRELU_SLOPE
from cips3d.models.volumegan.config import SMALLEST_VOLUME

KERNEL = 3
NORM_EPS = 1e-8  # added to the variance under the root
AFFINE_GAIN = 0.25  # of the initial map from styles to scales and shifts


class FeatureVolume(nn.Module):
    """w [B,W] -> features [B,C,S,S,S], S = `side` (public `FeatureVolume`).

    Of each stage: twice the side by repetition (but not of the first), 3x3x3 convolution, AdaIN (instance norm, then a
    scale and a shift from w), leaky ReLU. The channels begin at `base_channels` and halve with each stage.
    """

    def __init__(self, w_dim: int, side: int, channels: int, base_channels: int) -> None:
        super().__init__()
        stages = int(math.log2(side // SMALLEST_VOLUME)) + 1
        widths = [max(base_channels >> k, channels) for k in range(stages - 1)] + [channels]
        self.const = nn.Parameter(torch.ones(1, base_channels, *3 * [SMALLEST_VOLUME]))
        inputs = [base_channels, *widths[:-1]]
        self.convs = nn.ModuleList(
            nn.Conv3d(i, o, KERNEL, padding=KERNEL // 2) for i, o in zip(inputs, widths, strict=True)
        )
        self.widths = widths
        self.affine = nn.Linear(w_dim, 2 * sum(widths))
        nn.init.kaiming_normal_(self.affine.weight, a=LRELU_SLOPE, nonlinearity="leaky_relu")
        with torch.no_grad():
            self.affine.weight.mul_(AFFINE_GAIN)

    def forward(self, w: Tensor) -> Tensor:
        scales, shifts = (part.split(self.widths, 1) for part in self.affine(w).chunk(2, 1))
        x: Tensor = self.const  # one for all images up to the first scale
        for stage, conv in enumerate(self.convs):
            x = conv(F.interpolate(x, scale_factor=2, mode="nearest") if stage else x)
            scale, shift = (each[stage][..., None, None, None] for each in (scales, shifts))
            x = F.leaky_relu(F.instance_norm(x, eps=NORM_EPS) * scale + shift, LRELU_SLOPE)
        return x
