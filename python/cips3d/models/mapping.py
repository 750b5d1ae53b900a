"""Mapping networks: latent codes z to styles w (StyleGAN; official `MultiHeadMappingNetwork` without heads)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LRELU_SLOPE = 0.2
NORM_EPS = 1e-8


class MappingNetwork(nn.Module):
    """z [B,Z] -> w [B,W]: pixel norm, then linear layers with leaky ReLU between them, none after the last.

    With `layer_norm` every linear layer, the last one too, is followed by a layer norm.
    """

    def __init__(self, z_dim: int, width: int, layers: int, layer_norm: bool) -> None:
        super().__init__()
        widths = [z_dim] + [width] * layers
        self.z_dim, self.width = z_dim, width
        linears = [nn.Linear(i, o) for i, o in zip(widths[:-1], widths[1:], strict=True)]
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers if layer_norm else 0))
        self.activation = nn.LeakyReLU(LRELU_SLOPE)
        for linear in linears:
            nn.init.kaiming_normal_(linear.weight, a=LRELU_SLOPE)
        self.linears = nn.ModuleList(linears)

    def forward(self, z: Tensor) -> Tensor:
        x = z * torch.rsqrt(z.square().mean(1, keepdim=True) + NORM_EPS)
        for index, linear in enumerate(self.linears):
            x = self.activation(x) if index else x
            x = linear(x)
            x = self.norms[index](x) if len(self.norms) else x
        return x
