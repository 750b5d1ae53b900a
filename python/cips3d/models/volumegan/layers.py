"""What VolumeGAN's field and neural renderer are made of: 1x1 modulated convolutions and a positional encoding."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from cips3d.models.discriminator import LRELU_GAIN, LRELU_SLOPE, EqualLinear
from cips3d_ext import modfc

DEMODULATION_EPS = 1e-8


class ModulatedLayer(nn.Module):
    """StyleGAN2's modulated convolution with a 1x1 kernel (public `ModulateConvLayer`), on points or pixels [B,N,I].

    hidden    sqrt(2) lrelu(d x W^T + noise + bias), W_b = W * style_b, d = rsqrt(sum W_b^2 + eps)
    mixed     d x W^T: the layer before an upsampling, which noise, bias and activation follow
    colours   x (W / sqrt(I))^T + bias, without demodulation
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        w_dim: int,
        kind: Literal["hidden", "mixed", "colours"] = "hidden",
        impl: str = "auto",
    ) -> None:
        super().__init__()
        self.kind, self.impl = kind, impl
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.style = EqualLinear(w_dim, in_features, bias=1.0)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None = None) -> Tensor:
        """x [B,N,I], the style [B,I] that `self.style` makes of w, noise broadcastable to y -> y [B,N,O]."""
        if self.kind == "colours":
            scale = 1 / math.sqrt(self.weight.shape[1])
            return modfc(x, self.weight, style, self.bias, scale=scale, demodulate=False, impl=self.impl)
        if self.kind == "mixed":
            return modfc(x, self.weight, style, eps=DEMODULATION_EPS, impl=self.impl)
        return modfc(
            x,
            self.weight,
            style,
            self.bias,
            noise,
            eps=DEMODULATION_EPS,
            activation="lrelu",
            alpha=LRELU_SLOPE,
            gain=LRELU_GAIN,
            impl=self.impl,
        )


def encode_positions(points: Tensor, octaves: int) -> Tensor:
    """[B,N,3] -> [B,N,3+6L]: the points themselves, then sin(2^k p) and cos(2^k p) for k < L (NeRF's, without pi)."""
    frequencies = 2.0 ** torch.arange(octaves, device=points.device, dtype=points.dtype)
    angles = points[..., None, :] * frequencies[:, None]  # [B,N,L,3]
    return torch.cat([points, torch.stack([angles.sin(), angles.cos()], -2).flatten(-3)], -1)
