"""Pieces of StyleGAN2's generator (arXiv 1912.04958) that several models share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cips3d.models.discriminator import LRELU_GAIN, LRELU_SLOPE, EqualLinear

NORM_EPS = 1e-8  # added to the mean square under the root
MAPPING_LR_MULTIPLIER = 0.01  # the mapping learns that much slower than the rest


class StyleMapping(nn.Module):
    """z [B,Z] -> w [B,W]: pixel norm, then `layers` equalised linear layers, each with a leaky ReLU of gain sqrt(2).

    With condition_dim the pixel-normed linear map of a condition [B,condition_dim] (a label) follows z into the first.
    """

    def __init__(self, z_dim: int, width: int, layers: int, condition_dim: int = 0) -> None:
        super().__init__()
        self.z_dim, self.width, self.count = z_dim, width, layers
        self.embed = EqualLinear(condition_dim, width) if condition_dim else None
        widths = [z_dim + (width if condition_dim else 0)] + [width] * layers
        for k, (i, o) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            self.add_module(f"fc{k}", EqualLinear(i, o, MAPPING_LR_MULTIPLIER))

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        x = pixel_norm(z)
        if self.embed is not None:
            if condition is None:
                raise ValueError("StyleMapping: condition must be [B,condition_dim], got None")
            x = torch.cat([x, pixel_norm(self.embed(condition))], 1)
        for k in range(self.count):
            x = F.leaky_relu(self.get_submodule(f"fc{k}")(x), LRELU_SLOPE) * LRELU_GAIN
        return x


def pixel_norm(x: Tensor) -> Tensor:
    """Rows [B,C] of mean square 1."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + NORM_EPS)


def upsample(x: Tensor) -> Tensor:
    """[B,C,H,W] -> [B,C,2H,2W] by zeros between the pixels and the low-pass (1,3,3,1) / 4 in both directions.

    Which is bilinear interpolation of the picture with zeros around it: (1,3) / 4 and (3,1) / 4 of two neighbours.
    """
    padded = F.pad(x, (1, 1, 1, 1))
    return F.interpolate(padded, scale_factor=2, mode="bilinear", align_corners=False)[..., 2:-2, 2:-2]
