"""Modulated fully connected layer (ModFC): a linear map whose weights are scaled by a style and normalised per sample.

Source: CIPS-3D (arXiv 2110.09788) `SinStyleMod`, and the 1x1 modulated convolutions of StyleGAN2, EG3D, VolumeGAN,
StyleNeRF, CIPS and EpiGRAF; its residual skip and to-RGB head as in CIPS-3D. Axes: B batch, N points, I in, O out,
K colours.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from ._gradients import ALL_GRADIENTS, select_gradients
from ._modulated_map import modulated_map
from ._precision import widen


def modfc(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    bias: Tensor | None = None,
    noise: Tensor | None = None,
    skip: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """The y of modfc_with_rgb; its options."""
    return modfc_with_rgb(x, weight, style, bias, noise, skip, **options)[0]


def modfc_with_rgb(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    bias: Tensor | None = None,
    noise: Tensor | None = None,
    skip: Tensor | None = None,
    to_rgb: Tensor | None = None,
    *,
    scale: float = 1.0,
    style_offset: float = 0.0,
    demodulate: bool = True,
    eps: float = 1e-8,
    activation: str = "linear",
    alpha: float = 0.2,
    gain: float = 1.0,
    clamp: float | None = None,
    reduced_precision: bool = False,
    channels_first: bool = False,
) -> tuple[Tensor, Tensor]:
    """y = clamp(gain * act(d * (x W'^T) + noise + bias)) + skip, rgb = y to_rgb^T.

    W' = scale * W * (style + style_offset), d = rsqrt(sum_I W'^2 + eps) per sample and output channel, or 1 without
    demodulation.
    x [B,N,I], weight [O,I], style [B,I], bias [O], noise broadcastable to [B,N,O], skip [B,N,O], to_rgb [K,O]
    -> y [B,N,O] and rgb [B,N,K] (empty [0] without to_rgb) in the dtype of x.
    `activation` is linear, relu, lrelu (slope `alpha`) or sin; `clamp` limits |y| before the skip.
    reduced_precision is a permission for kernels; nothing is rounded here.
    channels_first: x is [B,I,N], noise (of three axes), skip and y are [B,O,N]; there is no to_rgb.
    """
    x, noise, skip = _swapped(channels_first, x, noise, skip)
    y = modulated_map(widen(x), scale * widen(weight), widen(style) + style_offset, demodulate, eps).value()
    for term in (noise, bias):
        y = y if term is None else y + widen(term)
    y = gain * _activate(y, activation, alpha)
    y = y if clamp is None else y.clamp(-clamp, clamp)
    y = y if skip is None else y + widen(skip)
    rgb = y.new_empty(0) if to_rgb is None else y @ widen(to_rgb).T
    (y,) = _swapped(channels_first, y.to(x.dtype))
    return y.contiguous(), rgb.to(x.dtype)


def modfc_backward(
    grad_y: Tensor | None,
    grad_rgb: Tensor | None,
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    bias: Tensor | None = None,
    noise: Tensor | None = None,
    skip: Tensor | None = None,
    to_rgb: Tensor | None = None,
    *,
    scale: float = 1.0,
    style_offset: float = 0.0,
    demodulate: bool = True,
    eps: float = 1e-8,
    activation: str = "linear",
    alpha: float = 0.2,
    gain: float = 1.0,
    clamp: float | None = None,
    reduced_precision: bool = False,
    channels_first: bool = False,
    linear: Tensor | None = None,
    branches: Tensor | None = None,
    grad_mask: int = ALL_GRADIENTS,
) -> tuple[Tensor | None, ...]:
    """Gradients of x, weight, style, bias, noise (as expanded to [B,N,O]), skip and to_rgb from grad_y [B,N,O] and
    grad_rgb [B,N,K]; None where nobody used that output.

    v = z + noise + bias with z = d * (x (W m)^T), W scaled and m = style + style_offset (see _modulated_map.py).
    The gradient passes where |y| <= clamp; a relu's is 0 at 0. What reaches y, and so the skip, is
    grad_y + grad_rgb to_rgb.
    If the forward kept them: linear = x (W m)^T; branches, where act is no sine: bytes of (v <= 0) + 2 (|y| > clamp).
    """
    x, noise, skip, grad_y, linear, branches = _swapped(channels_first, x, noise, skip, grad_y, linear, branches)
    wide_weight = widen(weight) if scale == 1 else scale * widen(weight)
    z = modulated_map(widen(x), wide_weight, widen(style) + style_offset, demodulate, eps, linear)

    @cache
    def v() -> Tensor:
        total = z.value()
        for term in (noise, bias):
            total = total if term is None else total + widen(term)
        return total

    grad_skip = _gradient_of_y(grad_y, grad_rgb, to_rgb)
    if activation == "linear" and clamp is None:
        grad_v = grad_skip if gain == 1 else gain * grad_skip
    elif branches is None:
        grad_v = grad_skip * _slope(v(), activation, alpha, gain, clamp)
    else:
        slope = _slope_of_piece((branches & 1) == 0, activation, alpha, gain, grad_skip.dtype)
        grad_v = grad_skip * (slope if clamp is None else slope.masked_fill(branches > 1, 0.0))

    def grad_to_rgb() -> Tensor | None:
        if to_rgb is None or grad_rgb is None:
            return None if to_rgb is None else torch.zeros_like(to_rgb)
        y = gain * _activate(v(), activation, alpha)
        y = y if clamp is None else y.clamp(-clamp, clamp)
        return torch.einsum("bnk,bno->ko", widen(grad_rgb), y if skip is None else y + widen(skip))

    grad_x, grad_weight, grad_style = z.gradients(grad_v)
    grad_noise, grad_skip = _swapped(channels_first, grad_v, grad_skip)
    gradients = (
        lambda: _swapped(channels_first, grad_x())[0],
        lambda: scale * grad_weight(),
        grad_style,
        lambda: grad_v.sum((0, 1)),
        grad_noise,
        grad_skip,
        grad_to_rgb,
    )
    return select_gradients(gradients, (x, weight, style, bias, noise, skip, to_rgb), grad_mask)


def _swapped(channels_first: bool, *tensors: Any) -> tuple[Any, ...]:
    """[B,N,*] to [B,*,N], and the other way round, where channels come first."""
    return tuple(t.mT if channels_first and t is not None else t for t in tensors)


def _gradient_of_y(grad_y: Tensor | None, grad_rgb: Tensor | None, to_rgb: Tensor | None) -> Tensor:
    """grad_y + grad_rgb to_rgb, one of which may be absent."""
    if grad_rgb is None or to_rgb is None:
        assert grad_y is not None
        return widen(grad_y)
    through_rgb = widen(grad_rgb) @ widen(to_rgb)
    return through_rgb if grad_y is None else through_rgb + widen(grad_y)


def _activate(v: Tensor, activation: str, alpha: float) -> Tensor:
    if activation == "linear":
        return v
    if activation == "relu":
        return torch.relu(v)
    if activation == "lrelu":
        return torch.where(v > 0, v, alpha * v)
    if activation == "sin":
        return torch.sin(v)
    raise ValueError(f"modfc: activation must be linear, relu, lrelu or sin, got {activation!r}")


def _slope(v: Tensor, activation: str, alpha: float, gain: float, clamp: float | None) -> Tensor:
    """The derivative of clamp(gain * act(v))."""
    slope = gain * torch.cos(v) if activation == "sin" else _slope_of_piece(v > 0, activation, alpha, gain, v.dtype)
    if clamp is None:
        return slope
    return slope.masked_fill((gain * _activate(v, activation, alpha)).abs() > clamp, 0.0)


def _slope_of_piece(above: Tensor, activation: str, alpha: float, gain: float, dtype: torch.dtype) -> Tensor:
    """The derivative of gain * act, linear on two pieces, on that above 0 where `above` is set."""
    below = {"linear": gain, "lrelu": gain * alpha, "relu": 0.0}[activation]
    slope_above, slope_below = (torch.full((), slope, dtype=dtype, device=above.device) for slope in (gain, below))
    return torch.where(above, slope_above, slope_below)
