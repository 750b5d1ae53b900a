"""The field of EG3D: features read from three planes, turned into density and colour features by a small network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cips3d.models.discriminator import EqualLinear
from cips3d_ext import SirenFieldOutput, sample_planes

PLANES = 3
# Plane p spans these axes of a point, along its width and height: xy, xz and zx. The last one was meant to be the zy
# plane; the public code reads it so, and all published weights were trained on it (NVlabs/eg3d issue 67).
PLANE_AXES = ((0, 1), (0, 2), (2, 0))
HIDDEN = 64
# Colours may leave [0,1] by this much, so that the sigmoid need not saturate (Mip-NeRF, arXiv 2103.13415).
COLOUR_MARGIN = 0.001
DENSITY_SHIFT = -1.0  # before the softplus: thin fog at the start of the training (Mip-NeRF)


class Decoder(nn.Module):
    """Features [*,C] -> colours [*,F] in about [0,1] and density [*] before its softplus; public: OSGDecoder."""

    def __init__(self, plane_channels: int, features: int, lr_multiplier: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            EqualLinear(plane_channels, HIDDEN, lr_multiplier),
            nn.Softplus(),
            EqualLinear(HIDDEN, 1 + features, lr_multiplier),
        )

    def forward(self, x: Tensor) -> SirenFieldOutput:
        y = self.net(x)
        colours = torch.sigmoid(y[..., 1:]) * (1 + 2 * COLOUR_MARGIN) - COLOUR_MARGIN
        return SirenFieldOutput(colours, y[..., 0] + DENSITY_SHIFT)


def plane_features(planes: Tensor, points: Tensor, box_side: float, impl: str) -> Tensor:
    """The mean of what points [B,N,3] read on the planes [B,3,C,R,R] of a box around 0, [B,N,C]; 0 outside of it."""
    return sample_planes(planes, points, axes=PLANE_AXES, point_scale=2 / box_side, reduce="mean", impl=impl)
