"""Merges two sets of samples along rays in the order of their depths: hierarchical sampling's coarse and fine pass.

    order = stable argsort of cat(z_a, z_b);  z = cat(z_a, z_b)[order];  merged = cat(f_a, f_b)[order]

z_a [*,Sa], z_b [*,Sb]; each pair (f_a [*,Sa,C], f_b [*,Sb,C]) or (f_a [*,Sa], f_b [*,Sb]). Gradients: all of them; the
op is linear in the values, so every order of derivative follows from gather and its transpose, scatter. dtypes are
kept, also under autocast.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .. import reference
from ._checks import check_one_dtype, check_shape, check_tensors
from ._registry import OpSpec, call, define, dispatcher_op, record_native, register_formula, use_native

SCHEMA = "merge_samples(Tensor z_a, Tensor z_b) -> (Tensor z, Tensor order)"
SCHEMA_GATHER = "merge_samples_gather(Tensor a, Tensor b, Tensor order) -> Tensor"
SCHEMA_SCATTER = "merge_samples_scatter(Tensor grad, Tensor order, int count_a) -> (Tensor grad_a, Tensor grad_b)"


def _fake(z_a: Tensor, z_b: Tensor) -> tuple[Tensor, Tensor]:
    shape = (z_a.shape[0], z_a.shape[1] + z_b.shape[1])
    return z_a.new_empty(shape), z_a.new_empty(shape, dtype=torch.int64)


def _fake_gather(a: Tensor, b: Tensor, order: Tensor) -> Tensor:
    return a.new_empty((*order.shape, a.shape[2]))


def _fake_scatter(grad: Tensor, order: Tensor, count_a: int) -> tuple[Tensor, Tensor]:
    P, S, C = grad.shape
    return grad.new_empty((P, count_a, C)), grad.new_empty((P, S - count_a, C))


def _save_order(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(output[1])
    ctx.count_a = inputs[0].shape[1]


def _merge_backward(ctx: Any, grad_z: Tensor, _: Any) -> tuple[Tensor, Tensor]:
    grad_a, grad_b = dispatcher_op("merge_samples_scatter")(grad_z.unsqueeze(-1), ctx.saved_tensors[0], ctx.count_a)
    return grad_a.squeeze(-1), grad_b.squeeze(-1)


def _save_for_gather(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(inputs[2])
    ctx.count_a = inputs[0].shape[1]


def _gather_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    grad_a, grad_b = dispatcher_op("merge_samples_scatter")(grad, ctx.saved_tensors[0], ctx.count_a)
    return grad_a, grad_b, None


def _save_for_scatter(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(inputs[1])


def _scatter_backward(ctx: Any, grad_grad_a: Tensor, grad_grad_b: Tensor) -> tuple[Tensor, None, None]:
    return dispatcher_op("merge_samples_gather")(grad_grad_a, grad_grad_b, ctx.saved_tensors[0]), None, None


define(SCHEMA, reference.merge_samples, _fake)
define(SCHEMA_GATHER, reference.merge_samples_gather, _fake_gather)
define(SCHEMA_SCATTER, reference.merge_samples_scatter, _fake_scatter)
register_formula("merge_samples", _merge_backward, _save_order)
register_formula("merge_samples_gather", _gather_backward, _save_for_gather)
register_formula("merge_samples_scatter", _scatter_backward, _save_for_scatter)
record_native(
    OpSpec(
        name="merge_samples",
        schema=SCHEMA,
        reference=reference.merge_samples,
        fake=_fake,
        helpers=("merge_samples_gather", "merge_samples_scatter"),
    )
)


def _check_pair(position: int, pair: tuple[Tensor, Tensor], z_a: Tensor, z_b: Tensor) -> None:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(f"merge_samples: pairs[{position}] must be a pair (f_a, f_b), got {type(pair).__name__}")
    f_a, f_b = pair
    check_tensors("merge_samples", **{f"pairs[{position}][0]": f_a, f"pairs[{position}][1]": f_b})
    check_one_dtype("merge_samples", **{f"pairs[{position}][0]": f_a, f"pairs[{position}][1]": f_b})
    for side, f, z in ((0, f_a, z_a), (1, f_b, z_b)):
        if f.shape[: z.dim()] != z.shape or f.dim() > z.dim() + 1:
            shape = list(z.shape)
            raise ValueError(
                f"merge_samples: pairs[{position}][{side}] must be {shape} or {shape} + [C], got {list(f.shape)}"
            )
    if f_a.shape[z_a.dim() :] != f_b.shape[z_b.dim() :]:
        seen = f"{list(f_a.shape)} and {list(f_b.shape)}"
        raise ValueError(f"merge_samples: both tensors of pairs[{position}] need the same C, got {seen}")


def merge_samples(z_a: Tensor, z_b: Tensor, *pairs: tuple[Tensor, Tensor], impl: str = "auto") -> tuple[Tensor, ...]:
    """Samples of two passes in increasing order of depth; on ties a comes before b.

    Args:
        z_a, z_b: depths [*,Sa] and [*,Sb], in any order along the ray.
        pairs: (f_a, f_b), values of the samples: [*,Sa] and [*,Sb], or [*,Sa,C] and [*,Sb,C].
        impl: "auto" (native kernel if there is one), "fused" (native or RuntimeError), "reference".

    Returns: (z [*,Sa+Sb], one merged tensor for each pair).
    Raises: ValueError for wrong shapes, TypeError for dtypes, RuntimeError if impl="fused" is not possible.
    """
    check_tensors("merge_samples", z_a=z_a, z_b=z_b)
    check_one_dtype("merge_samples", z_a=z_a, z_b=z_b)
    if z_a.dim() < 1:
        raise ValueError("merge_samples: z_a must be [*,Sa] with at least one axis, got a scalar")
    check_shape("merge_samples", "z_b", z_b, "[*,Sb]", *z_a.shape[:-1], None)
    for position, pair in enumerate(pairs):
        _check_pair(position, pair, z_a, z_b)
    leading = z_a.shape[:-1]
    rays = math.prod(leading)
    z, order = call("merge_samples", impl, (z_a.reshape(rays, z_a.shape[-1]), z_b.reshape(rays, z_b.shape[-1])), ())
    native = use_native("merge_samples", impl, z_a)
    gather = dispatcher_op("merge_samples_gather") if native else reference.merge_samples_gather
    total = z.shape[-1]
    merged = []
    for f_a, f_b in pairs:
        channels = f_a.shape[z_a.dim() :]
        C = math.prod(channels)
        rows = gather(f_a.reshape(rays, z_a.shape[-1], C), f_b.reshape(rays, z_b.shape[-1], C), order)
        merged.append(rows.reshape(*leading, total, *channels))
    return (z.reshape(*leading, total), *merged)
