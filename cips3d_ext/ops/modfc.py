"""ModFC, the modulated fully connected layer (CIPS-3D, arXiv 2110.09788, eqs. 4-5); elsewhere a 1x1 convolution.

    y = clamp(gain * act(d * (x W'^T) + noise + bias)) + skip,   W'_b = scale * W * (style_b + style_offset)
    d[b,o] = rsqrt(sum_i W'_b[o,i]^2 + eps)  with demodulation, 1 without
    rgb = y to_rgb^T

x [B,N,I], weight [O,I], style [B,I], bias [O], noise broadcastable to y [B,N,O], skip [B,N,O], to_rgb [K,O]: rgb
[B,N,K] of few colours, from y before it is rounded, while it is at hand. With channels_first, as pictures [B,C,H,W]
are, x [B,I,N], noise, skip and y [B,O,N], without to_rgb: CPU kernels read and write these as they are, CUDA kernels
work on rows, and transpose on either side. Gradients: all seven, first and second order.
Under autocast it runs in the active dtype; float16 and bfloat16 compute in float32
(on CPUs with AVX512_BF16 the operands of bfloat16 products are rounded).

The gradient of to_rgb needs y, which is saved where that gradient is wanted (the next layer saves it, too); writing to
y before the backward is then an error of autograd's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import reference
from ._autocast import autocast_to_active
from ._checks import check_choice, check_one_dtype, check_shape, check_tensors
from ._precision import reduced_precision
from ._registry import OpSpec, call, register

ACTIVATIONS = ("linear", "lrelu", "relu", "sin")
# From so many points a sample on, its own weight gradient [O,I] costs less memory traffic than keeping [N,O].
_POINTS_FOR_SAMPLE_GRADIENTS = 256
MOST_COLOURS = 4  # K: the kernels hold one sum of each in registers
_ARGUMENTS = (
    "Tensor x, Tensor weight, Tensor style, Tensor? bias, Tensor? noise, Tensor? skip, Tensor? to_rgb, float scale, "
    "float style_offset, bool demodulate, float eps, str activation, float alpha, float gain, float? clamp, "
    "bool reduced_precision, bool channels_first"
)
SCHEMA = f"modfc({_ARGUMENTS}, str keep) -> (Tensor y, Tensor rgb, Tensor kept, Tensor demodulation)"
SCHEMA_BACKWARD = (
    "modfc_backward(Tensor? grad_y, Tensor? grad_rgb, Tensor? y, Tensor kept, Tensor demodulation, "
    f"{_ARGUMENTS}, int grad_mask) -> (Tensor grad_x, Tensor grad_weight, Tensor grad_style, Tensor grad_bias, "
    "Tensor grad_noise, Tensor grad_skip, Tensor grad_to_rgb)"
)
_GRAD_SKIP, _GRAD_TO_RGB = 5, 6


class ModfcRgb(NamedTuple):
    """y [B,N,O] and its colours y to_rgb^T, rgb [B,N,K]."""

    y: Tensor
    rgb: Tensor


def _shape(x: Tensor, weight: Tensor, channels_first: bool) -> tuple[int, int, int]:
    """Of y."""
    return (x.shape[0], weight.shape[0], x.shape[2]) if channels_first else (*x.shape[:2], weight.shape[0])


def _axes(channels_first: bool) -> str:
    return "[B,O,N]" if channels_first else "[B,N,O]"


def _check(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    bias: Tensor | None,
    skip: Tensor | None,
    to_rgb: Tensor | None,
    activation: str,
    clamp: float | None,
    channels_first: bool,
) -> None:
    check_choice("modfc", "activation", activation, ACTIVATIONS)
    check_shape("modfc", "x", x, "[B,I,N]" if channels_first else "[B,N,I]", None, None, None)
    inputs = x.shape[1 if channels_first else 2]
    check_shape("modfc", "weight", weight, "[O,I]", None, inputs)
    check_shape("modfc", "style", style, "[B,I]", x.shape[0], inputs)
    if bias is not None:
        check_shape("modfc", "bias", bias, "[O]", weight.shape[0])
    if skip is not None:
        check_shape("modfc", "skip", skip, _axes(channels_first), *_shape(x, weight, channels_first))
    if to_rgb is not None:
        if channels_first:
            raise ValueError("modfc: to_rgb needs rows x [B,N,I], got channels_first=True; transpose x")
        check_shape("modfc", "to_rgb", to_rgb, "[K,O]", None, weight.shape[0])
        if not 1 <= to_rgb.shape[0] <= MOST_COLOURS:
            raise ValueError(
                f"modfc: to_rgb must be [K,O] with K from 1 to {MOST_COLOURS}, got {list(to_rgb.shape)}; "
                "apply a wider map to y with torch.nn.functional.linear"
            )
    if clamp is not None and not clamp >= 0:
        raise ValueError(f"modfc: clamp must be None or >= 0, got {clamp}")


def _keep(tensors: Sequence[Tensor | None], options: Sequence[Any]) -> str:
    """What the CPU kernels keep for backward, beside d [B,O]: "linear" x W'^T [B,N,O] in float32 or float64; "branches"
    [B,N,O], a byte that says on which piece of activation and clamp it is; or "demodulation", nothing more.

    d's gradient is sum_N grad * linear, or comes from each sample's own weight gradient, [O,I] for a sample.
    """
    x = tensors[0]
    demodulate, activation, clamp, channels_first = options[2], options[4], options[7], options[9]
    if x is None or x.device.type != "cpu":
        return ""
    points = x.shape[2 if channels_first else 1]
    if activation == "sin" or (demodulate and points < _POINTS_FOR_SAMPLE_GRADIENTS):
        return "linear"
    return "demodulation" if activation == "linear" and clamp is None else "branches"


def _fake(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    bias: Tensor | None,
    noise: Tensor | None,
    skip: Tensor | None,
    to_rgb: Tensor | None,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *options, keep = rest
    channels_first = options[9]
    _check(x, weight, style, bias, skip, to_rgb, options[4], options[7], channels_first)
    shape = _shape(x, weight, channels_first)
    if noise is not None:
        check_shape("modfc", "noise", noise, _axes(channels_first), *shape)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    kept = {"linear": x.new_empty(shape, dtype=wide), "branches": x.new_empty(shape, dtype=torch.uint8)}
    d = x.new_empty((shape[0], weight.shape[0]), dtype=wide) if keep and options[2] else x.new_empty(0)
    rgb = x.new_empty(0 if to_rgb is None else (*shape[:2], to_rgb.shape[0]))
    return x.new_empty(shape), rgb, kept.get(keep, x.new_empty(0)), d


def _reference(x: Tensor, *tensors: Any, **options: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return *reference.modfc_with_rgb(x, *tensors, **options), x.new_empty(0), x.new_empty(0)


def _reference_backward(
    grad_y: Tensor | None,
    grad_rgb: Tensor | None,
    y: Tensor | None,
    kept: Tensor,
    demodulation: Tensor,
    *tensors: Any,
    **options: Any,
) -> tuple[Tensor | None, ...]:
    are_branches = kept.dtype == torch.uint8
    linear, branches = (kept if kept.numel() and wanted else None for wanted in (not are_branches, are_branches))
    return reference.modfc_backward(grad_y, grad_rgb, *tensors, linear=linear, branches=branches, **options)


register(
    OpSpec(
        name="modfc",
        schema=SCHEMA,
        backward_schema=SCHEMA_BACKWARD,
        reference=_reference,
        reference_backward=_reference_backward,
        fake=_fake,
        grad_of=tuple((i,) for i in range(7)),
        residuals=2,
        kept_results=((0, _GRAD_TO_RGB),),  # y
        passed_on=((_GRAD_SKIP, 0),),  # grad_y
        keep=_keep,
    )
)


def _expand(noise: Tensor, shape: tuple[int, int, int], axes: str) -> Tensor:
    try:
        return noise.expand(shape)
    except RuntimeError:
        wanted = f"broadcastable to {axes} = {list(shape)}"
        raise ValueError(f"modfc: noise must be {wanted}, got {list(noise.shape)}") from None


def _modfc(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    bias: Tensor | None,
    noise: Tensor | None,
    skip: Tensor | None,
    to_rgb: Tensor | None,
    impl: str,
    *,
    scale: float = 1.0,
    style_offset: float = 0.0,
    demodulate: bool = True,
    eps: float = 1e-8,
    activation: str = "linear",
    alpha: float = 0.2,
    gain: float = 1.0,
    clamp: float | None = None,
    channels_first: bool = False,
) -> tuple[Tensor, Tensor]:
    """y and rgb."""
    check_tensors("modfc", x=x, weight=weight, style=style, bias=bias, noise=noise, skip=skip, to_rgb=to_rgb)
    tensors = autocast_to_active(x, weight, style, bias, noise, skip, to_rgb)
    x, weight, style, bias, noise, skip, to_rgb = tensors
    check_one_dtype("modfc", x=x, weight=weight, style=style, bias=bias, noise=noise, skip=skip, to_rgb=to_rgb)
    _check(x, weight, style, bias, skip, to_rgb, activation, clamp, channels_first)
    if noise is not None:
        noise = _expand(noise, _shape(x, weight, channels_first), _axes(channels_first))
    precision = reduced_precision()
    options = (scale, style_offset, demodulate, eps, activation, alpha, gain, clamp, precision, channels_first)
    return call("modfc", impl, (x, weight, style, bias, noise, skip, to_rgb), options)


def modfc(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    bias: Tensor | None = None,
    noise: Tensor | None = None,
    *,
    skip: Tensor | None = None,
    scale: float = 1.0,
    style_offset: float = 0.0,
    demodulate: bool = True,
    eps: float = 1e-8,
    activation: str = "linear",
    alpha: float = 0.2,
    gain: float = 1.0,
    clamp: float | None = None,
    channels_first: bool = False,
    impl: str = "auto",
) -> Tensor:
    """Modulated fully connected layer: clamp(gain * act(d * (x W'^T) + noise + bias)) + skip.

    W' = scale * weight * (style + style_offset) for each sample.

    Args:
        x: rows [B,N,I], N points or pixels of each of B samples.
        weight: [O,I].
        style: one modulation vector a sample, [B,I].
        bias: [O] or None.
        noise: broadcastable to [B,N,O], added before the activation, or None.
        skip: [B,N,O], added at the end, or None.
        scale: factor of weight (equalised learning rate); with demodulation it only rescales eps.
        style_offset: added to style; 1 in CIPS-3D.
        demodulate: divide by the norm of each modulated weight row, d = rsqrt(sum_i W'^2 + eps).
        activation: "linear", "lrelu" (slope alpha), "relu" or "sin".
        gain, clamp: y is multiplied by gain, then limited to [-clamp, clamp].
        channels_first: x is [B,I,N], noise broadcastable to [B,O,N], skip and y [B,O,N]: pictures, flattened. CPU
            kernels take them as they are; CUDA kernels work on rows, between copies of x and y (and their gradients).
        impl: "auto" (native kernel if there is one), "fused" (native or RuntimeError), "reference".

    torch.set_float32_matmul_precision rules the float32 products of the CUDA kernels as it rules torch's own: exact at
    "highest", on tensor cores with operands of two bfloat16 numbers (16 bits) at "high" and "medium".

    Returns: y [B,N,O], or [B,O,N], in x's dtype (the active dtype under autocast), contiguous.
    Raises: ValueError for wrong shapes or options, TypeError for dtypes, RuntimeError if impl="fused" is not possible.
    """
    return _modfc(
        x,
        weight,
        style,
        bias,
        noise,
        skip,
        None,
        impl,
        scale=scale,
        style_offset=style_offset,
        demodulate=demodulate,
        eps=eps,
        activation=activation,
        alpha=alpha,
        gain=gain,
        clamp=clamp,
        channels_first=channels_first,
    )[0]


def modfc_with_rgb(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    to_rgb: Tensor,
    bias: Tensor | None = None,
    noise: Tensor | None = None,
    *,
    skip: Tensor | None = None,
    impl: str = "auto",
    **options: Any,
) -> ModfcRgb:
    """`modfc` and a linear map of its output to few colours, computed while y is at hand.

    Args:
        to_rgb: [K,O], K from 1 to 4 colours; their bias is left to the caller.
        options: those of `modfc`, as are the other arguments; there is no channels_first.

    Returns: ModfcRgb(y [B,N,O], rgb = y to_rgb^T [B,N,K]), both in x's dtype, contiguous. Where to_rgb requires a
    gradient, y is saved for it: writing to y in place then makes the backward raise, as after torch.exp.
    Raises: as `modfc`.
    """
    if to_rgb is None:
        raise TypeError("modfc: to_rgb must be a torch.Tensor [K,O], got None; use cips3d_ext.modfc without it")
    return ModfcRgb(*_modfc(x, weight, style, bias, noise, skip, to_rgb, impl, **options))
