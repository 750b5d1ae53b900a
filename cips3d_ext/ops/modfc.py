"""ModFC, the modulated fully connected layer (CIPS-3D, arXiv 2110.09788, eqs. 4-5); elsewhere a 1x1 convolution.

    y = clamp(gain * act(d * (x W'^T) + noise + bias)),   W'_b = scale * W * (style_b + style_offset)
    d[b,o] = rsqrt(sum_i W'_b[o,i]^2 + eps)  with demodulation, 1 without

x [B,N,I], weight [O,I], style [B,I], bias [O], noise broadcastable to y [B,N,O]. Gradients: all five, first and second
order. Under autocast it runs in the active dtype; float16 and bfloat16 compute in float32.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .. import reference
from ._checks import autocast_to_active, check_choice, check_one_dtype, check_shape, check_tensors
from ._registry import OpSpec, call, register

ACTIVATIONS = ("linear", "lrelu", "relu", "sin")
_ARGUMENTS = (
    "Tensor x, Tensor weight, Tensor style, Tensor? bias, Tensor? noise, float scale, float style_offset, "
    "bool demodulate, float eps, str activation, float alpha, float gain, float? clamp"
)
SCHEMA = f"modfc({_ARGUMENTS}) -> Tensor"
SCHEMA_BACKWARD = (
    f"modfc_backward(Tensor grad_y, {_ARGUMENTS}, int grad_mask) -> "
    "(Tensor grad_x, Tensor grad_weight, Tensor grad_style, Tensor grad_bias, Tensor grad_noise)"
)


def _check(x: Tensor, weight: Tensor, style: Tensor, bias: Tensor | None, activation: str, clamp: float | None) -> None:
    check_choice("modfc", "activation", activation, ACTIVATIONS)
    check_shape("modfc", "x", x, "[B,N,I]", None, None, None)
    check_shape("modfc", "weight", weight, "[O,I]", None, x.shape[2])
    check_shape("modfc", "style", style, "[B,I]", x.shape[0], x.shape[2])
    if bias is not None:
        check_shape("modfc", "bias", bias, "[O]", weight.shape[0])
    if clamp is not None and not clamp >= 0:
        raise ValueError(f"modfc: clamp must be None or >= 0, got {clamp}")


def _fake(x: Tensor, weight: Tensor, style: Tensor, bias: Tensor | None, noise: Tensor | None, *options: Any) -> Tensor:
    _check(x, weight, style, bias, options[4], options[7])
    shape = (x.shape[0], x.shape[1], weight.shape[0])
    if noise is not None:
        check_shape("modfc", "noise", noise, "[B,N,O]", *shape)
    return x.new_empty(shape)


register(
    OpSpec(
        name="modfc",
        schema=SCHEMA,
        backward_schema=SCHEMA_BACKWARD,
        reference=reference.modfc,
        reference_backward=reference.modfc_backward,
        fake=_fake,
        grad_of=((0,), (1,), (2,), (3,), (4,)),
    )
)


def _expand(noise: Tensor | None, shape: tuple[int, int, int]) -> Tensor | None:
    if noise is None:
        return None
    try:
        return noise.expand(shape)
    except RuntimeError:
        wanted = f"broadcastable to [B,N,O] = {list(shape)}"
        raise ValueError(f"modfc: noise must be {wanted}, got {list(noise.shape)}") from None


def modfc(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    bias: Tensor | None = None,
    noise: Tensor | None = None,
    *,
    scale: float = 1.0,
    style_offset: float = 0.0,
    demodulate: bool = True,
    eps: float = 1e-8,
    activation: str = "linear",
    alpha: float = 0.2,
    gain: float = 1.0,
    clamp: float | None = None,
    impl: str = "auto",
) -> Tensor:
    """Modulated fully connected layer: clamp(gain * act(d * (x W'^T) + noise + bias)).

    W' = scale * weight * (style + style_offset) for each sample.

    Args:
        x: rows [B,N,I], N points or pixels of each of B samples.
        weight: [O,I].
        style: one modulation vector a sample, [B,I].
        bias: [O] or None.
        noise: broadcastable to [B,N,O], added before the activation, or None.
        scale: factor of weight (equalised learning rate); with demodulation it only rescales eps.
        style_offset: added to style; 1 in CIPS-3D.
        demodulate: divide by the norm of each modulated weight row, d = rsqrt(sum_i W'^2 + eps).
        activation: "linear", "lrelu" (slope alpha), "relu" or "sin".
        gain, clamp: y is multiplied by gain, then limited to [-clamp, clamp].
        impl: "auto" (native kernel if there is one), "fused" (native or RuntimeError), "reference".

    Returns: y [B,N,O] in x's dtype (the active dtype under autocast), contiguous.
    Raises: ValueError for wrong shapes or options, TypeError for dtypes, RuntimeError if impl="fused" is not possible.
    """
    check_tensors("modfc", x=x, weight=weight, style=style, bias=bias, noise=noise)
    x, weight, style, bias, noise = autocast_to_active(x, weight, style, bias, noise)
    check_one_dtype("modfc", x=x, weight=weight, style=style, bias=bias, noise=noise)
    _check(x, weight, style, bias, activation, clamp)
    noise = _expand(noise, (x.shape[0], x.shape[1], weight.shape[0]))
    options = (scale, style_offset, demodulate, eps, activation, alpha, gain, clamp)
    return call("modfc", impl, (x, weight, style, bias, noise), options)
