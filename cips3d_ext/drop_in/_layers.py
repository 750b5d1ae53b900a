"""Our ops in the shapes and dtypes that the hosts' layers have."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..ops.film_sine import film_sine
from ..ops.modfc import modfc
from ._covers import autocast_dtype


class EqualLinear(nn.Module):
    """x (scale weight)^T + bias with scale 1 / sqrt(I), the equalised learning rate of the StyleGANs."""

    def __init__(self, in_dim: int, out_dim: int, bias_init: float = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_dim, in_dim))
        self.bias = nn.Parameter(torch.full([out_dim], float(bias_init)))
        self.scale = in_dim**-0.5

    def forward(self, x: Tensor) -> Tensor:
        """x [B,I] -> [B,O]."""
        return nn.functional.linear(x, self.weight * self.scale, self.bias)


def film(x: Tensor, weight: Tensor, bias: Tensor | None, gamma: Tensor, beta: Tensor) -> Tensor:
    """sin(gamma * (x W^T + bias) + beta), x [B,*,I], gamma and beta [B,O] -> [B,*,O]."""
    y = film_sine(x, weight, bias, gamma, beta)
    if autocast_dtype(x) is None:
        return y
    # Under autocast the linear map alone is in the active dtype; frequencies and phases decide the result's.
    return y.to(torch.promote_types(y.dtype, torch.promote_types(gamma.dtype, beta.dtype)))


def modfc_channels_first(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    bias: Tensor | None = None,
    noise: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """`modfc` where channels come second: x [B,I,*], weight [O,I], style [B',I] -> [B,O,*], contiguous.

    B is a multiple of B', each style serves B / B' consecutive rows. noise: [B,1,*], or [1,1,*] for all. Outside of
    autocast everything is computed in x's dtype.
    """
    B, samples, O = x.shape[0], style.shape[0], weight.shape[0]
    if samples != B:
        style = style.repeat_interleave(B // samples, 0)
    tensors = [x.flatten(2), weight, style, bias, noise if noise is None else noise.flatten(2)]
    if autocast_dtype(x) is None:
        tensors = [t if t is None else t.to(x.dtype) for t in tensors]
    y = modfc(*tensors, channels_first=True, **options)  # type: ignore[arg-type]
    return y.view(B, O, *x.shape[2:])
