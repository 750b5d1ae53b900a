"""Linear maps, one weight matrix for all samples or one for each, whose value may be known already."""

from typing import Any

import torch
from torch import Tensor

# Up to so many columns a product takes a CPU many times as long as its transposed one of as many rows.
_NARROW = 8


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b, the other way round where b has few columns, as those of coordinates."""
    return (b.mT @ a.mT).mT if b.shape[-1] <= _NARROW else a @ b


def linear_map(x: Tensor, weight: Tensor, bias: Tensor | None = None, value: Tensor | None = None) -> Tensor:
    """x W^T + bias, x [B,N,I], weight [O,I] or [B,O,I], bias [O] -> [B,N,O].

    value: the result, if it is known, in its own graph or as a constant that a forward pass kept. Then nothing is
    computed, and all derivatives are those of the map.
    """
    if value is not None:
        return value if value.requires_grad else _KnownLinearMap.apply(x, weight, bias, value)
    product = x @ weight.mT
    return product if bias is None else product + bias


def weight_gradient(grad: Tensor, x: Tensor, dimensions: int) -> Tensor:
    """That of linear_map's weight from grad [B,N,O]: [O,I] with 2 dimensions, [B,O,I] with 3."""
    if dimensions == 2:
        grad, x = grad.flatten(0, 1), x.flatten(0, 1)
    return product(grad.mT, x)


class _KnownLinearMap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, value: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias, _ = ctx.needs_input_grad
        return (
            product(grad, weight) if wants_x else None,
            weight_gradient(grad, x, weight.dim()) if wants_weight else None,
            grad.sum((0, 1)) if wants_bias else None,
            None,
        )
