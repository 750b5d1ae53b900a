"""FiLM-sine layer: a linear map, a per-sample frequency and phase, a sine (pi-GAN, arXiv 2012.00926, eq. 3; CIPS-3D).

    y = sin(g * (x W^T + bias) + h)
    g = gamma_scale * gamma + gamma_offset (1 without gamma),   h = beta_scale * beta (0 without beta)

x [B,*,I], weight [O,I], bias [O], gamma and beta [B,O]. Gradients: all five tensors, first and second order. Under
autocast it runs in the active dtype; float16 and bfloat16 compute in float32
(on CPUs with AVX512_BF16 the operands of bfloat16 products are rounded: grad_linear, in the backward).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import reference
from ._autocast import autocast_to_active
from ._checks import check_one_dtype, check_shape, check_tensors
from ._precision import reduced_precision
from ._registry import OpSpec, call, register

# From so many inputs on, writing and reading [B,N,O] takes less time than the product that it saves the backward.
_INPUTS_WORTH_KEEPING = 32
_ARGUMENTS = (
    "Tensor x, Tensor weight, Tensor? bias, Tensor? gamma, Tensor? beta, "
    "float gamma_scale, float gamma_offset, float beta_scale, bool reduced_precision"
)
SCHEMA = f"film_sine({_ARGUMENTS}, str keep) -> (Tensor y, Tensor linear)"
SCHEMA_BACKWARD = (
    f"film_sine_backward(Tensor grad_y, Tensor linear, {_ARGUMENTS}, int grad_mask) -> "
    "(Tensor grad_x, Tensor grad_weight, Tensor grad_bias, Tensor grad_gamma, Tensor grad_beta)"
)
SCHEMA_SECOND = (
    "film_sine_second(Tensor? grad_grad_x, Tensor? grad_grad_gamma, Tensor? grad_grad_beta, Tensor grad_y, "
    f"Tensor linear, {_ARGUMENTS}, int grad_mask) -> (Tensor grad_grad_y, Tensor grad_x, Tensor grad_weight, "
    "Tensor grad_bias, Tensor grad_gamma, Tensor grad_beta)"
)


def _check(x: Tensor, weight: Tensor, bias: Tensor | None, gamma: Tensor | None, beta: Tensor | None) -> None:
    if x.dim() < 2:
        raise ValueError(f"film_sine: x must be [B,*,I] with at least two axes, got {list(x.shape)}")
    check_shape("film_sine", "weight", weight, "[O,I]", None, x.shape[-1])
    if bias is not None:
        check_shape("film_sine", "bias", bias, "[O]", weight.shape[0])
    for name, film in (("gamma", gamma), ("beta", beta)):
        if film is not None:
            check_shape("film_sine", name, film, "[B,O]", x.shape[0], weight.shape[0])


def _keep(tensors: Sequence[Tensor | None], options: Sequence[Any]) -> str:
    """The CPU kernels keep "linear", x W^T + bias [B,N,O] in float32 or float64: half of what eager PyTorch keeps of a
    float32 layer (linear and phase), and as much of a bfloat16 one. Its cosine would not give gamma's gradient.
    """
    x = tensors[0]
    return "linear" if x is not None and x.device.type == "cpu" and x.shape[2] >= _INPUTS_WORTH_KEEPING else ""


def _fake(
    x: Tensor, weight: Tensor, bias: Tensor | None, gamma: Tensor | None, beta: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor]:
    *_, keep = rest
    check_shape("film_sine", "x", x, "[B,N,I]", None, None, None)
    _check(x, weight, bias, gamma, beta)
    shape = (x.shape[0], x.shape[1], weight.shape[0])
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return x.new_empty(shape), x.new_empty(shape, dtype=wide) if keep else x.new_empty(0)


def _reference(x: Tensor, *tensors: Any, **options: Any) -> tuple[Tensor, Tensor]:
    return reference.film_sine(x, *tensors, **options), x.new_empty(0)


def _reference_backward(grad_y: Tensor, linear: Tensor, *tensors: Any, **options: Any) -> tuple[Tensor | None, ...]:
    return reference.film_sine_backward(grad_y, *tensors, linear=linear if linear.numel() else None, **options)


register(
    OpSpec(
        name="film_sine",
        schema=SCHEMA,
        backward_schema=SCHEMA_BACKWARD,
        reference=_reference,
        reference_backward=_reference_backward,
        fake=_fake,
        grad_of=((0,), (1,), (2,), (3,), (4,)),
        residuals=1,
        keep=_keep,
        second_schema=SCHEMA_SECOND,
        directions=(0, 3, 4),  # those of x, gamma and beta
    )
)


def film_sine(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    gamma_scale: float = 1.0,
    gamma_offset: float = 0.0,
    beta_scale: float = 1.0,
    impl: str = "auto",
) -> Tensor:
    """FiLM-sine layer: sin(g * (x W^T + bias) + h), g = gamma_scale * gamma + gamma_offset, h = beta_scale * beta.

    Args:
        x: [B,*,I], any number of point axes, also none.
        weight: [O,I]. bias: [O] or None.
        gamma: frequency of each sample and channel, [B,O], or None for g = 1. CIPS-3D: gamma_scale 15, gamma_offset 30.
        beta: phase (rad) of each sample and channel, [B,O], or None for h = 0.
        impl: "auto" (native kernel if there is one), "fused" (native or RuntimeError), "reference".

    torch.set_float32_matmul_precision rules the float32 products of the CUDA kernels as those of `modfc`.

    Returns: [B,*,O] in x's dtype (the active dtype under autocast), contiguous.
    Raises: ValueError for wrong shapes, TypeError for dtypes, RuntimeError if impl="fused" is not possible.
    """
    check_tensors("film_sine", x=x, weight=weight, bias=bias, gamma=gamma, beta=beta)
    x, weight, bias, gamma, beta = autocast_to_active(x, weight, bias, gamma, beta)
    check_one_dtype("film_sine", x=x, weight=weight, bias=bias, gamma=gamma, beta=beta)
    _check(x, weight, bias, gamma, beta)
    points = x.reshape(x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1])
    options = (gamma_scale, gamma_offset, beta_scale, reduced_precision())
    y = call("film_sine", impl, (points, weight, bias, gamma, beta), options)
    return y.reshape(*x.shape[:-1], weight.shape[0])
