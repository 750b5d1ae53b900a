"""Modulated fully connected layer (ModFC): a linear map whose weights are scaled by a style and normalised per sample.

Source: CIPS-3D (arXiv 2110.09788) `SinStyleMod`, and the 1x1 modulated convolutions of StyleGAN2, EG3D, VolumeGAN,
StyleNeRF, CIPS and EpiGRAF; its residual skip and to-RGB head as in CIPS-3D. Axes: B batch, N points, I in, O out,
K colours.
"""

from typing import Any

import torch
from torch import Tensor

from ._gradients import ALL_GRADIENTS, select_gradients
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
) -> tuple[Tensor, Tensor]:
    """y = clamp(gain * act(d * (x W'^T) + noise + bias)) + skip, rgb = y to_rgb^T.

    W' = scale * W * (style + style_offset), d = rsqrt(sum_I W'^2 + eps) per sample and output channel, or 1 without
    demodulation.
    x [B,N,I], weight [O,I], style [B,I], bias [O], noise broadcastable to [B,N,O], skip [B,N,O], to_rgb [K,O]
    -> y [B,N,O] and rgb [B,N,K] (empty [0] without to_rgb) in the dtype of x.
    `activation` is linear, relu, lrelu (slope `alpha`) or sin; `clamp` limits |y| before the skip.
    reduced_precision is a permission for kernels; nothing is rounded here.
    """
    modulation = widen(style) + style_offset
    form = _scaled_form if prefer_scaled_form(x.shape[1], *reversed(weight.shape)) else _per_sample_form
    y = form(widen(x), scale * widen(weight), modulation, demodulate, eps)
    for term in (noise, bias):
        y = y if term is None else y + widen(term)
    y = gain * _activate(y, activation, alpha)
    y = y if clamp is None else y.clamp(-clamp, clamp)
    y = y if skip is None else y + widen(skip)
    rgb = y.new_empty(0) if to_rgb is None else y @ widen(to_rgb).T
    return y.to(x.dtype), rgb.to(x.dtype)


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
    grad_mask: int = ALL_GRADIENTS,
) -> tuple[Tensor | None, ...]:
    """Gradients of x, weight, style, bias, noise (as expanded to [B,N,O]), skip and to_rgb from grad_y [B,N,O] and
    grad_rgb [B,N,K]; None where nobody used that output.

    In the scaled form v = d z + noise + bias with z = (x * m) W^T, m = style + style_offset and W scaled; d depends on
    m and W through q = m^2 (W^2)^T, dd/dq = -d^3 / 2. The gradient passes where |y| <= clamp; a relu's is 0 at 0.
    What reaches y, and so the skip, is grad_y + grad_rgb to_rgb.
    """
    wide_x, wide_weight, modulation = widen(x), scale * widen(weight), widen(style) + style_offset
    scaled_x = wide_x * modulation.unsqueeze(1)
    product = scaled_x @ wide_weight.T
    ones = product.new_ones(product.shape[0], product.shape[2])
    demodulation = _demodulation(wide_weight, modulation, eps) if demodulate else ones

    v = product * demodulation.unsqueeze(1)
    for term in (noise, bias):
        v = v if term is None else v + widen(term)
    unlimited = gain * _activate(v, activation, alpha)
    grad_skip, grad_to_rgb = _backward_outputs(grad_y, grad_rgb, unlimited, clamp, skip, to_rgb)
    grad_v = grad_skip * gain * _slope(v, activation, alpha)
    if clamp is not None:
        grad_v = grad_v * (unlimited.abs() <= clamp)

    grad_product = grad_v * demodulation.unsqueeze(1)
    grad_scaled_x = grad_product @ wide_weight
    grad_weight = torch.einsum("bno,bni->oi", grad_product, scaled_x)
    grad_style = (grad_scaled_x * wide_x).sum(1)
    if demodulate:
        grad_q = -0.5 * demodulation**3 * (grad_v * product).sum(1)
        grad_weight = grad_weight + 2 * wide_weight * (grad_q.T @ modulation.square())
        grad_style = grad_style + 2 * modulation * (grad_q @ wide_weight.square())
    grad_x = grad_scaled_x * modulation.unsqueeze(1)
    gradients = (grad_x, scale * grad_weight, grad_style, grad_v.sum((0, 1)), grad_v, grad_skip, grad_to_rgb)
    return select_gradients(gradients, (x, weight, style, bias, noise, skip, to_rgb), grad_mask)


def _backward_outputs(
    grad_y: Tensor | None,
    grad_rgb: Tensor | None,
    unlimited: Tensor,
    clamp: float | None,
    skip: Tensor | None,
    to_rgb: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """The whole gradient of y [B,N,O], and that of to_rgb [K,O] from y = clamp(unlimited) + skip."""
    total = torch.zeros_like(unlimited)
    if grad_y is not None:
        total = total + widen(grad_y)
    if to_rgb is None:
        return total, None
    if grad_rgb is None:
        return total, torch.zeros_like(widen(to_rgb))
    y = unlimited if clamp is None else unlimited.clamp(-clamp, clamp)
    y = y if skip is None else y + widen(skip)
    return total + widen(grad_rgb) @ widen(to_rgb), torch.einsum("bnk,bno->ko", widen(grad_rgb), y)


def prefer_scaled_form(rows: int, in_features: int, out_features: int) -> bool:
    """Whether scaling inputs and outputs moves less memory than a weight matrix per sample.

    `rows` N are those of one sample. The product itself costs the same in both forms. Beside it the scaled form reads
    and writes x and y once more, 2 N (I + O) numbers, and reads the shared weights once for d, O I. Per-sample weights
    are written, read for the sums of their squares, read and written to be normalised, and read by the product; with
    the read of the shared ones that is 6 O I.
    """
    scaled = 2 * rows * (in_features + out_features) + out_features * in_features
    per_sample = 6 * out_features * in_features
    return scaled <= per_sample


def _scaled_form(x: Tensor, weight: Tensor, modulation: Tensor, demodulate: bool, eps: float) -> Tensor:
    """d * ((x * modulation) W^T): one weight matrix for the whole batch."""
    y = (x * modulation.unsqueeze(1)) @ weight.T
    return y * _demodulation(weight, modulation, eps).unsqueeze(1) if demodulate else y


def _per_sample_form(x: Tensor, weight: Tensor, modulation: Tensor, demodulate: bool, eps: float) -> Tensor:
    """x (d * W * modulation)^T: one weight matrix for each sample, [B,O,I]."""
    weights = weight * modulation.unsqueeze(1)
    if demodulate:
        weights = weights * torch.rsqrt(weights.square().sum(-1, keepdim=True) + eps)
    return x @ weights.mT


def _demodulation(weight: Tensor, modulation: Tensor, eps: float) -> Tensor:
    """d [B,O] = rsqrt(sum_I (W * modulation)^2 + eps)."""
    return torch.rsqrt(modulation.square() @ weight.square().T + eps)


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


def _slope(v: Tensor, activation: str, alpha: float) -> Tensor:
    """The derivative of _activate."""
    if activation == "linear":
        return torch.ones_like(v)
    if activation == "sin":
        return torch.cos(v)
    return torch.where(v > 0, torch.ones_like(v), alpha if activation == "lrelu" else 0.0)
