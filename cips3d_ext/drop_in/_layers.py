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


class _Transposed(torch.autograd.Function):
    """x [B,M,N] -> [B,N,M], contiguous, on a CPU: torch copies matrices in blocks, twice as fast as a batch of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        result = x.new_empty(x.shape[0], x.shape[2], x.shape[1])
        for to, matrix in zip(result, x, strict=True):
            to.copy_(matrix.T)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return transposed(grad.contiguous())


def transposed(x: Tensor) -> Tensor:
    """x [B,M,N] -> [B,N,M], contiguous."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return x.transpose(1, 2).contiguous()
    return _Transposed.apply(x)


def film_channels_first(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """sin(W x + bias) where channels come second: x [B,I,*], weight [O,I] -> [B,O,*], contiguous."""
    y = film_sine(transposed(x.flatten(2)), weight, bias)
    return transposed(y).view(x.shape[0], weight.shape[0], *x.shape[2:])


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
    B, points = x.shape[0], x.shape[2:].numel()
    samples, O = style.shape[0], weight.shape[0]
    rows = transposed(x.flatten(2)).view(samples, -1, x.shape[1])
    if noise is not None:
        noise = noise.expand(B, *noise.shape[1:]).reshape(samples, -1, 1)
    tensors = [rows, weight, style, bias, noise]
    if autocast_dtype(x) is None:
        tensors = [t if t is None else t.to(x.dtype) for t in tensors]
    y = modfc(*tensors, **options)  # type: ignore[arg-type]
    return transposed(y.view(B, points, O)).view(B, O, *x.shape[2:])
