"""CIPS-3D (arXiv 2110.09788, github.com/PeterouZh/CIPS-3D): FiLM layers of its NeRF, modulated layers of its INR.

Classes: FiLMLayer, FiLMLayer_PreSin (film_layer.py); SinStyleMod, Modulated_FC_Conv (mod_conv_fc.py). The modulated
ones keep their weight as [1,I,O], or for grouped convolutions, which take pictures too, as [1,O,I,1,1].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..ops.film_sine import film_sine
from ..ops.modfc import modfc
from ._adapter import Adapter, guarded_forward, lacks, unlike
from ._covers import autocast_dtype, dense, enough_rows, one_dtype, unhooked
from ._layers import EqualLinear, film, modfc_channels_first
from .cips3d_rendering import fancy_integration as fancy_integration
from .cips3d_rendering import sample_pdf as sample_pdf

_STYLE_INIT_SCALE = 0.25  # layers start close to no modulation
_SINE_INIT_DIVISOR = 25.0
_PRE_SIN_INIT_BOUND = 3.0
_LRELU_SLOPE = 0.2  # of the activations around the modulated layers


class LinearScale(nn.Module):
    """x * scale + bias, without parameters."""

    def __init__(self, scale: float, bias: float) -> None:
        super().__init__()
        self.scale_v, self.bias_v = scale, bias

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape -> the same."""
        return x * self.scale_v + self.bias_v


class FiLMLayer(nn.Module):
    """sin((15 gain_fc(style) + 30) * linear(x) + bias_fc(style)), with CIPS-3D's constructor, keys and forward."""

    def __init__(self, in_dim: int, out_dim: int, style_dim: int, use_style_fc: bool = True) -> None:
        super().__init__()
        self.use_style_fc = use_style_fc
        self.linear = nn.Linear(in_dim, out_dim)
        self.gain_scale = LinearScale(scale=15, bias=30)
        bound = (6 / in_dim) ** 0.5 / _SINE_INIT_DIVISOR
        nn.init.uniform_(self.linear.weight, -bound, bound)
        self.style_dim = style_dim if use_style_fc else 2 * out_dim
        if use_style_fc:
            self.gain_fc, self.bias_fc = (_style_map(style_dim, out_dim) for _ in range(2))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """x [B,N,I] or [B,I], style [B,style_dim] -> [B,N,O] or [B,O]."""
        return _film(self, x, style)


class FiLMLayer_PreSin(nn.Module):
    """gain_fc(style) * sin(linear(x)) + bias_fc(style), with CIPS-3D's constructor, keys and forward."""

    def __init__(self, in_dim: int, out_dim: int, style_dim: int, use_style_fc: bool = True) -> None:
        super().__init__()
        self.use_style_fc = use_style_fc
        self.linear = nn.Linear(in_dim, out_dim)
        bound = _PRE_SIN_INIT_BOUND / in_dim**0.5
        nn.init.uniform_(self.linear.weight, -bound, bound)
        self.style_dim = style_dim if use_style_fc else 2 * out_dim
        if use_style_fc:
            self.gain_fc, self.bias_fc = (_style_map(style_dim, out_dim) for _ in range(2))
            nn.init.ones_(self.gain_fc.bias)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """x [B,N,I] or [B,I], style [B,style_dim] -> [B,N,O] or [B,O]."""
        return _pre_sin(self, x, style)


class _ModulatedLayer(nn.Module):
    """What CIPS-3D's modulated layers have in common; 1x1 kernels alone.

    With use_group_conv the weight is [1,O,I,1,1] and x may be pictures, else it is [1,I,O].
    """

    weight: nn.Parameter

    def __init__(
        self,
        in_channel: int,
        out_channel: int,
        kernel_size: int,
        style_dim: int | None,
        use_style_fc: bool,
        demodulate: bool,
        use_group_conv: bool,
        eps: float,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if kernel_size != 1:
            raise ValueError(f"{name}: kernel_size must be 1, got {kernel_size}; larger ones are no linear layers")
        if use_style_fc and style_dim is None:
            raise ValueError(f"{name}: use_style_fc needs style_dim")
        self.in_channel, self.out_channel, self.kernel_size = in_channel, out_channel, kernel_size
        self.use_style_fc, self.demodulate, self.eps = use_style_fc, demodulate, eps
        self.use_group_conv = use_group_conv
        self.style_dim = style_dim if use_style_fc else in_channel
        shape = (1, out_channel, in_channel, 1, 1) if use_group_conv else (1, in_channel, out_channel)
        self.weight = nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor, style: Tensor, force_bmm: bool = False) -> Tensor:
        """x [B,N,I], [B,I] or pictures [B,I,H,W], style [B,style_dim], or [B,I] without use_style_fc -> likewise O."""
        return _modulated(self, x, style, force_bmm)


class SinStyleMod(_ModulatedLayer):
    """x (weight * (style + 1)), demodulated over inputs, with CIPS-3D's constructor, keys and forward.

    In the grouped form the 1 is added to what the style's map gives alone. `norm` is CIPS-3D's, too: in its state dicts
    and never called.
    """

    def __init__(
        self,
        in_channel: int,
        out_channel: int,
        kernel_size: int = 1,
        style_dim: int | None = None,
        use_style_fc: bool = False,
        demodulate: bool = True,
        use_group_conv: bool = False,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(in_channel, out_channel, kernel_size, style_dim, use_style_fc, demodulate, use_group_conv, eps)
        nn.init.kaiming_normal_(self.weight[0], a=_LRELU_SLOPE)
        if use_style_fc and style_dim is not None:
            self.modulation = nn.Linear(style_dim, in_channel)
            nn.init.kaiming_normal_(self.modulation.weight, a=_LRELU_SLOPE)
        self.norm = nn.LayerNorm(in_channel)


class Modulated_FC_Conv(_ModulatedLayer):
    """x (scale * weight * style), demodulated over inputs, with CIPS-3D's constructor, keys and forward.

    scale is 1 / sqrt(I) unless given; then it is the style map's as well. With use_style_fc the style is 1 + what the
    map gives, whose bias starts at 1. State dicts of grouped convolutions load into the other form.
    """

    def __init__(
        self,
        in_channel: int,
        out_channel: int,
        kernel_size: int = 1,
        style_dim: int | None = None,
        use_style_fc: bool = False,
        demodulate: bool = True,
        scale: float | None = None,
        use_group_conv: bool = False,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(in_channel, out_channel, kernel_size, style_dim, use_style_fc, demodulate, use_group_conv, eps)
        self.scale = in_channel**-0.5 if scale is None else scale
        if use_style_fc and style_dim is not None:
            self.modulation = EqualLinear(style_dim, in_channel, bias_init=1)
            if scale is not None:
                self.modulation.scale = scale

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        weight = state_dict.get(f"{prefix}weight")
        if weight is not None and weight.dim() > self.weight.dim():
            state_dict[f"{prefix}weight"] = weight[:, :, :, 0, 0].mT
        super()._load_from_state_dict(state_dict, prefix, *args)


def _style_map(style_dim: int, out_dim: int) -> nn.Linear:
    layer = nn.Linear(style_dim, out_dim)
    with torch.no_grad():
        layer.weight.mul_(_STYLE_INIT_SCALE)
    return layer


def _gain_and_bias(module: Any, style: Tensor) -> tuple[Tensor, Tensor]:
    if module.use_style_fc:
        return module.gain_fc(style), module.bias_fc(style)
    gain, bias = style.chunk(2, dim=1)
    return gain, bias


def _film(module: Any, x: Tensor, style: Tensor) -> Tensor:
    gain, bias = _gain_and_bias(module, style)
    return film(x, module.linear.weight, module.linear.bias, module.gain_scale(gain), bias)


def _pre_sin(module: Any, x: Tensor, style: Tensor) -> Tensor:
    gain, bias = _gain_and_bias(module, style)
    if x.dim() == 3:
        gain, bias = gain[:, None], bias[:, None]
    return gain * film_sine(x, module.linear.weight, module.linear.bias) + bias


def _covers_film(module: Any, x: Any, style: Any) -> bool:
    return (
        type(module.linear) is nn.Linear
        and dense(x, style, module.linear.weight)
        and x.dim() in (2, 3)
        and style.dim() == 2
        and style.shape[0] == x.shape[0]
        and one_dtype(x, style, module.linear.weight)
        and unhooked(module.linear)
    )


def _film_misfit(module: Any) -> str:
    if reason := unlike(module, _film, "linear", "use_style_fc", "style_dim"):
        return reason
    if type(module.linear) is not nn.Linear:
        return "its linear is no nn.Linear"
    return lacks(module, "gain_fc", "bias_fc") if module.use_style_fc else ""


def _film_trial(shadow: Any) -> tuple[Any, ...]:
    return torch.randn(2, 3, shadow.linear.weight.shape[1]), torch.randn(2, shadow.style_dim)


def _modulated(module: Any, x: Tensor, style: Tensor, force_bmm: bool = False) -> Tensor:
    """SinStyleMod and Modulated_FC_Conv, which alone has a `scale` (and adds the 1 only to what its map gives)."""
    if module.use_style_fc:
        style = module.modulation(style)
    scaled, grouped = hasattr(module, "scale"), module.use_group_conv
    offset = 1.0 if module.use_style_fc or not (scaled or (grouped and not force_bmm)) else 0.0
    options = {
        "scale": module.scale if scaled else 1.0,
        "style_offset": offset,
        "demodulate": module.demodulate,
        "eps": module.eps,
    }
    weight = module.weight[0, :, :, 0, 0] if grouped else module.weight[0].T
    if x.dim() == 4:
        return modfc_channels_first(x, weight, style, **options)
    points = x if x.dim() == 3 else x[:, None]
    y = modfc(points, weight, _like(points, style), **options)
    return y if x.dim() == 3 else y[:, 0]


def _like(x: Tensor, style: Tensor) -> Tensor:
    return style if autocast_dtype(x) is not None else style.to(x.dtype)


def _covers_modulated(module: Any, x: Any, style: Any, force_bmm: bool = False) -> bool:
    pictures = module.use_group_conv and not force_bmm
    return (
        dense(x, style, module.weight)
        and (x.dim() in (2, 3) or (pictures and x.dim() == 4))
        and style.dim() == 2
        and style.shape[0] == x.shape[0]
        and one_dtype(x, style, module.weight)
        and enough_rows(x, module.in_channel)
    )


def _modulated_misfit(module: Any) -> str:
    names = ("weight", "use_style_fc", "use_group_conv", "demodulate", "eps", "kernel_size", "style_dim", "in_channel")
    if reason := unlike(module, _modulated, *names):
        return reason
    if module.kernel_size != 1:
        return f"its kernel is {module.kernel_size}x{module.kernel_size}, only 1x1 is a modulated linear layer"
    return lacks(module, "modulation") if module.use_style_fc else ""


def _modulated_trial(shadow: Any) -> tuple[Any, ...]:
    width = shadow.modulation.weight.shape[1] if shadow.use_style_fc else shadow.in_channel
    return torch.randn(2, 3, shadow.in_channel), torch.randn(2, width)


ADAPTERS = (
    Adapter(
        "CIPS-3D", ("FiLMLayer",), ("film_sine",), lambda m: _film_misfit(m) or lacks(m, "gain_scale"),
        guarded_forward(_covers_film, _film), _film_trial,
    ),
    Adapter(
        "CIPS-3D", ("FiLMLayer_PreSin",), ("film_sine",), _film_misfit,
        guarded_forward(_covers_film, _pre_sin), _film_trial,
    ),
    Adapter(
        "CIPS-3D", ("SinStyleMod", "Modulated_FC_Conv"), ("modfc",), _modulated_misfit,
        guarded_forward(_covers_modulated, _modulated), _modulated_trial,
    ),
)  # fmt: skip
