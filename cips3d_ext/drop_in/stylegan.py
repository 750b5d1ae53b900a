"""StyleGAN2-ADA (arXiv 2006.06676) and EG3D (arXiv 2112.07945, github.com/NVlabs/eg3d): 1x1 modulated layers.

SynthesisLayer where its kernel is 1x1 and it keeps the resolution, and ToRGBLayer, 96 channels of planes in EG3D.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ._adapter import Adapter, guarded_forward, unlike
from ._covers import dense, enough_channels, plain
from ._layers import EqualLinear, modfc_channels_first
from .cips import ModulatedConv1x1  # rosinality's StyleGAN2 has it as CIPS has

__all__ = ["ModulatedConv1x1", "SynthesisLayer", "ToRGBLayer"]
ACTIVATIONS = {"linear": 1.0, "relu": 2**0.5, "lrelu": 2**0.5}  # those of bias_act that modfc has, with their gains
SMALL = 4  # pixels of a side in trial calls
RESAMPLE_TAPS = (1, 3, 3, 1)
_NOISE_MODES = ("random", "const", "none")


def low_pass(taps: Sequence[float]) -> Tensor:
    """The hosts' buffer resample_filter [k,k]: 1x1 layers that keep the resolution have it for their keys alone."""
    line = torch.as_tensor(taps, dtype=torch.float32)
    return torch.outer(line, line) / line.sum() ** 2


def require_linear(layer: str, activation: str = "linear", **wanted: tuple[Any, Any]) -> None:
    """Raises ValueError where a layer with these options is none of modfc's; wanted: option=(given, needed)."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"{layer}: activation must be one of {list(ACTIVATIONS)}, got {activation!r}")
    for option, (given, needed) in wanted.items():
        if given != needed:
            raise ValueError(f"{layer}: {option} must be {needed!r}, got {given!r}: others are no linear layers")


class SynthesisLayer(nn.Module):
    """A modulated, demodulated layer with noise and activation, with EG3D's constructor, keys and forward.

    kernel_size and up must be 1, activation linear, relu or lrelu. channels_last is EG3D's and changes nothing.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        kernel_size: int = 3,
        up: int = 1,
        use_noise: bool = True,
        activation: str = "lrelu",
        resample_filter: Sequence[float] = RESAMPLE_TAPS,
        conv_clamp: float | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        require_linear("SynthesisLayer", activation, kernel_size=(kernel_size, 1), up=(up, 1))
        self.resolution, self.up, self.use_noise = resolution, up, use_noise
        self.activation, self.act_gain, self.conv_clamp = activation, ACTIVATIONS[activation], conv_clamp
        self.register_buffer("resample_filter", low_pass(resample_filter))
        self.affine = EqualLinear(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        if use_noise:
            self.register_buffer("noise_const", torch.randn(resolution, resolution))
            self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(
        self, x: Tensor, w: Tensor, noise_mode: str = "random", fused_modconv: bool = True, gain: float = 1
    ) -> Tensor:
        """x [B,I,H,W], codes w [B,w_dim] -> [B,O,H,W]; noise_mode: random, const or none."""
        require_noise_mode(noise_mode)
        return _synthesis(self, x, w, noise_mode, fused_modconv, gain)


def require_noise_mode(noise_mode: str) -> None:
    """Raises ValueError for a noise mode that the hosts do not know."""
    if noise_mode not in _NOISE_MODES:
        raise ValueError(f"noise_mode must be one of {_NOISE_MODES}, got {noise_mode!r}")


class ToRGBLayer(nn.Module):
    """clamp(x (weight * affine(w) / sqrt(I))^T + bias), with EG3D's constructor, keys and forward; its kernel is 1."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        kernel_size: int = 1,
        conv_clamp: float | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        require_linear("ToRGBLayer", kernel_size=(kernel_size, 1))
        self.conv_clamp, self.weight_gain = conv_clamp, in_channels**-0.5
        self.affine = EqualLinear(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, w: Tensor, fused_modconv: bool = True) -> Tensor:
        """x [B,I,H,W], codes w [B,w_dim] -> [B,O,H,W]; fused_modconv is EG3D's and changes nothing."""
        return _to_rgb(self, x, w)


def synthesis_options(module: Any, gain: float) -> dict[str, Any]:
    """What follows the product in a layer with activation, act_gain and conv_clamp."""
    clamp = None if module.conv_clamp is None else module.conv_clamp * gain
    return {"activation": module.activation, "gain": ACTIVATIONS[module.activation] * gain, "clamp": clamp}


def _synthesis(
    module: Any, x: Tensor, w: Tensor, noise_mode: str = "random", fused_modconv: bool = True, gain: float = 1
) -> Tensor:
    styles, noise = module.affine(w), None
    if module.use_noise and noise_mode == "random":
        noise = torch.randn([x.shape[0], 1, *x.shape[2:]], device=x.device) * module.noise_strength
    if module.use_noise and noise_mode == "const":
        noise = (module.noise_const * module.noise_strength)[None, None]
    return modfc_channels_first(
        x, module.weight[:, :, 0, 0], styles, module.bias, noise, **synthesis_options(module, gain)
    )


def _covers_synthesis(
    module: Any, x: Any, w: Any, noise_mode: str = "random", fused_modconv: bool = True, gain: float = 1
) -> bool:
    picture = (module.weight.shape[1], module.resolution, module.resolution)
    return noise_mode in _NOISE_MODES and plain(gain) and covers_picture(module, x, w) and x.shape[1:] == picture


def _to_rgb(module: Any, x: Tensor, w: Tensor, fused_modconv: bool = True) -> Tensor:
    styles = module.affine(w) * module.weight_gain
    options = {"demodulate": False, "clamp": module.conv_clamp}
    return modfc_channels_first(x, module.weight[:, :, 0, 0], styles, module.bias, **options)


def _covers_to_rgb(module: Any, x: Any, w: Any, fused_modconv: bool = True) -> bool:
    return covers_picture(module, x, w)


def covers_picture(module: Any, x: Any, w: Any) -> bool:
    """Whether x is pictures and w one code for each."""
    return (
        dense(x, w, module.weight)
        and x.dim() == 4
        and w.dim() == 2
        and x.shape[0] == w.shape[0]
        and x.shape[1] == module.weight.shape[1]
        and enough_channels(x, module.weight.shape[0])
    )


def kernel_misfit(module: Any) -> str:
    """Why a layer's weight [O,I,k,k] is not that of a modulated linear layer."""
    sides = module.weight.shape[2:]
    if module.weight.dim() != 4 or any(side != 1 for side in sides):
        return f"its kernel is {'x'.join(map(str, sides))}, only 1x1 is a modulated linear layer"
    return ""


def activation_misfit(activation: str, gain: float) -> str:
    """Why a layer's activation, times a gain, is none of modfc's."""
    if activation not in ACTIVATIONS:
        return f"modfc has no activation {activation}"
    return "" if math.isclose(gain, ACTIVATIONS[activation]) else f"its gain is {gain:g}, which {activation} has not"


def _synthesis_misfit(module: Any) -> str:
    names = ("affine", "weight", "bias", "up", "use_noise", "resolution", "activation", "act_gain", "conv_clamp")
    if reason := unlike(module, _synthesis, *names) or kernel_misfit(module):
        return reason
    if module.up != 1:
        return "it changes the resolution"
    return activation_misfit(module.activation, module.act_gain)


def _to_rgb_misfit(module: Any) -> str:
    names = ("affine", "weight", "bias", "weight_gain", "conv_clamp")
    return unlike(module, _to_rgb, *names) or kernel_misfit(module)


def picture_trial(shadow: Any) -> tuple[Any, ...]:
    """Pictures and codes for a layer, which is made to take small ones."""
    if hasattr(shadow, "resolution"):
        shadow.resolution = SMALL
    if getattr(shadow, "use_noise", False):
        shadow.noise_const = torch.randn(SMALL, SMALL)
    return torch.randn(2, shadow.weight.shape[1], SMALL, SMALL), torch.randn(2, shadow.affine.weight.shape[1])


ADAPTERS = (
    Adapter(
        "EG3D", ("SynthesisLayer",), ("modfc",), _synthesis_misfit,
        guarded_forward(_covers_synthesis, _synthesis), picture_trial,
    ),
    Adapter(
        "EG3D", ("ToRGBLayer",), ("modfc",), _to_rgb_misfit,
        guarded_forward(_covers_to_rgb, _to_rgb), picture_trial,
    ),
)  # fmt: skip
