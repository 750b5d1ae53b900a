"""StyleNeRF (arXiv 2110.08985, github.com/facebookresearch/StyleNeRF): 1x1 modulated layers.

Style2Layer of its NeRF, ToRGBLayer and SynthesisLayer. Samples of rays are rows of the batch there: x has
B * samples rows and w B, each code serves `samples` consecutive rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ._adapter import Adapter, guarded_forward, lacks, unlike
from ._covers import dense, enough_channels, plain
from ._layers import EqualLinear, modfc_channels_first
from .pigan_rendering import sample_pdf as sample_pdf
from .stylegan import (
    ACTIVATIONS,
    RESAMPLE_TAPS,
    activation_misfit,
    kernel_misfit,
    low_pass,
    picture_trial,
    require_linear,
    require_noise_mode,
    synthesis_options,
)
from .stylegan import SynthesisLayer as _SynthesisLayer
from .stylenerf_rendering import calc_volume_weights as calc_volume_weights
from .stylenerf_rendering import query_input_features as query_input_features

_NO_MAGNITUDE = -1  # magnitude_ema_beta of layers that do not divide by a running magnitude


class Style2Layer(nn.Module):
    """A modulated, demodulated layer of the NeRF, with StyleNeRF's constructor, keys and forward.

    w_dim must be positive (the host's layer without style is a plain linear one), up 1. magnitude_ema_beta > 0 divides
    x by the running mean of its magnitude; the first layer of a training call moves it on.
    """

    conv_clamp = None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        activation: str = "lrelu",
        resample_filter: Sequence[float] = RESAMPLE_TAPS,
        magnitude_ema_beta: float = _NO_MAGNITUDE,
        **unused_kwargs: Any,
    ) -> None:
        super().__init__()
        _require_style("Style2Layer", w_dim)
        require_linear("Style2Layer", activation)
        self.activation, self.act_gain, self.w_dim = activation, ACTIVATIONS[activation], w_dim
        self.register_buffer("resample_filter", low_pass(resample_filter))
        self.affine = EqualLinear(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        _add_magnitude(self, magnitude_ema_beta)

    def forward(
        self, x: Tensor, w: Tensor, fused_modconv: Any = None, gain: float = 1, up: int = 1, **unused_kwargs: Any
    ) -> Tensor:
        """x [B * samples,I,H,W], codes w [B,w_dim] -> [B * samples,O,H,W]."""
        require_linear("Style2Layer", up=(up, 1))
        return _style2(self, x, w, fused_modconv, gain, up)


class ToRGBLayer(nn.Module):
    """clamp(x (weight * affine(w) / sqrt(I))^T + bias), with StyleNeRF's constructor, keys and forward; w_dim > 0."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int = 0,
        kernel_size: int = 1,
        conv_clamp: float | None = None,
        channels_last: bool = False,
        mode: str = "2d",
        **unused: Any,
    ) -> None:
        super().__init__()
        _require_style("ToRGBLayer", w_dim)
        require_linear("ToRGBLayer", kernel_size=(kernel_size, 1), mode=(mode, "2d"))
        self.conv_clamp, self.weight_gain, self.w_dim, self.mode = conv_clamp, in_channels**-0.5, w_dim, mode
        self.affine = EqualLinear(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, w: Tensor, fused_modconv: bool = True) -> Tensor:
        """x [B * samples,I,H,W], codes w [B,w_dim] -> [B * samples,O,H,W]."""
        return _to_rgb(self, x, w, fused_modconv)


class SynthesisLayer(_SynthesisLayer):
    """StyleGAN2's layer with StyleNeRF's constructor, keys and forward; kernel_size and up 1, no groups, mode 2d."""

    groups, mode = 1, "2d"

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
        upsample_mode: str = "default",
        use_group: bool = False,
        magnitude_ema_beta: float = _NO_MAGNITUDE,
        mode: str = "2d",
        **unused_kwargs: Any,
    ) -> None:
        shared = in_channels, out_channels, w_dim, resolution, kernel_size, up, use_noise, activation
        super().__init__(*shared, resample_filter, conv_clamp, channels_last)
        require_linear("SynthesisLayer", use_group=(use_group, False), mode=(mode, "2d"))
        self.upsample_mode = upsample_mode
        _add_magnitude(self, magnitude_ema_beta)

    def forward(
        self,
        x: Tensor,
        w: Tensor,
        noise_mode: str = "random",
        fused_modconv: bool = True,
        gain: float = 1,
        skip_up: bool = False,
        input_noise: Tensor | None = None,
        **unused_kwargs: Any,
    ) -> Tensor:
        """x [B * samples,I,H,W], codes w [B,w_dim] -> [B * samples,O,H,W]; noise_mode: random, const or none.

        input_noise [1 or B * samples,1,H,W] takes the place of random or constant noise; with skip_up there is none.
        """
        require_noise_mode(noise_mode)
        return _synthesis(self, x, w, noise_mode, fused_modconv, gain, skip_up, input_noise)


def _require_style(layer: str, w_dim: int) -> None:
    if w_dim <= 0:
        raise ValueError(f"{layer}: w_dim must be positive, got {w_dim}: without style it is a torch.nn.Linear")


def _add_magnitude(layer: nn.Module, magnitude_ema_beta: float) -> None:
    layer.magnitude_ema_beta = magnitude_ema_beta  # type: ignore[assignment]
    if magnitude_ema_beta > 0:
        layer.register_buffer("w_avg", torch.ones([]))


def _normalised(module: Any, x: Tensor) -> Tensor:
    """x divided by the running mean of its magnitude, which a training call moves on."""
    if module.magnitude_ema_beta <= 0:
        return x
    if module.training:
        magnitude = x.detach().to(torch.float32).square().mean()
        module.w_avg.copy_(magnitude.lerp(module.w_avg, module.magnitude_ema_beta))
    return x * module.w_avg.rsqrt()


def _style2(
    module: Any, x: Tensor, w: Any = None, fused_modconv: Any = None, gain: float = 1, up: int = 1, **unused_kwargs: Any
) -> Tensor:
    x = _normalised(module, x)
    options = synthesis_options(module, gain)
    return modfc_channels_first(x, module.weight[:, :, 0, 0], module.affine(w), module.bias, **options)


def _covers_style2(
    module: Any, x: Any, w: Any = None, fused_modconv: Any = None, gain: float = 1, up: int = 1, **unused_kwargs: Any
) -> bool:
    return up == 1 and plain(gain) and _covers_rows(module, x, w)


def _covers_rows(module: Any, x: Any, w: Any) -> bool:
    return (
        dense(x, w, module.weight)
        and x.dim() == 4
        and w.dim() == 2
        and w.shape[0] > 0
        and x.shape[0] % w.shape[0] == 0
        and x.shape[1] == module.weight.shape[1]
        and enough_channels(x, module.weight.shape[0])
    )


def _to_rgb(module: Any, x: Tensor, w: Any = None, fused_modconv: bool = True) -> Tensor:
    styles = module.affine(w) * module.weight_gain
    options = {"demodulate": False, "clamp": module.conv_clamp}
    return modfc_channels_first(x, module.weight[:, :, 0, 0], styles, module.bias, **options)


def _covers_to_rgb(module: Any, x: Any, w: Any = None, fused_modconv: bool = True) -> bool:
    return w is not None and _covers_rows(module, x, w)


def _synthesis(
    module: Any,
    x: Tensor,
    w: Tensor,
    noise_mode: str = "random",
    fused_modconv: bool = True,
    gain: float = 1,
    skip_up: bool = False,
    input_noise: Any = None,
    **unused_kwargs: Any,
) -> Tensor:
    x, noise = _normalised(module, x), None
    if module.use_noise and input_noise is not None:
        noise = input_noise * module.noise_strength
    elif module.use_noise and noise_mode == "random":
        noise = torch.randn([x.shape[0], 1, *x.shape[2:]], device=x.device) * module.noise_strength
    elif module.use_noise and noise_mode == "const":
        noise = (module.noise_const * module.noise_strength)[None, None]
    noise = None if skip_up else noise  # which the host draws all the same
    options = synthesis_options(module, gain)
    return modfc_channels_first(x, module.weight[:, :, 0, 0], module.affine(w), module.bias, noise, **options)


def _covers_synthesis(
    module: Any,
    x: Any,
    w: Any,
    noise_mode: str = "random",
    fused_modconv: bool = True,
    gain: float = 1,
    skip_up: bool = False,
    input_noise: Any = None,
    **unused_kwargs: Any,
) -> bool:
    constant = module.use_noise and noise_mode == "const"
    return (
        noise_mode in ("random", "const", "none")
        and input_noise is None
        and plain(gain)
        and _covers_rows(module, x, w)
        and (not constant or x.shape[2:] == module.noise_const.shape)
    )


def _style2_misfit(module: Any) -> str:
    if reason := unlike(module, _style2, "w_dim", "weight", "bias", "magnitude_ema_beta"):
        return reason
    if module.w_dim == 0:
        return "it has no style: a plain linear layer"
    names = ("affine", "activation", "act_gain", "conv_clamp")
    if reason := lacks(module, *names) or kernel_misfit(module):
        return reason
    return activation_misfit(module.activation, module.act_gain)


def _to_rgb_misfit(module: Any) -> str:
    if reason := unlike(module, _to_rgb, "weight", "bias", "weight_gain", "conv_clamp"):
        return reason
    return kernel_misfit(module) if hasattr(module, "affine") else "it has no style: a plain linear layer"


def _synthesis_misfit(module: Any) -> str:
    names = ("affine", "weight", "bias", "up", "groups", "mode", "upsample_mode", "use_noise", "magnitude_ema_beta")
    if reason := unlike(module, _synthesis, *names) or kernel_misfit(module):
        return reason
    if module.up != 1 or module.groups != 1 or module.mode != "2d":
        return "it changes the resolution, or has groups or another dimension"
    reason = lacks(module, "activation", "act_gain", "conv_clamp")
    return reason or activation_misfit(module.activation, module.act_gain)


def _rows_trial(shadow: Any) -> tuple[Any, ...]:
    x, w = picture_trial(shadow)
    return torch.cat([x, x.flip(1)]), w


ADAPTERS = (
    Adapter(
        "StyleNeRF", ("Style2Layer",), ("modfc",), _style2_misfit,
        guarded_forward(_covers_style2, _style2), _rows_trial,
    ),
    Adapter(
        "StyleNeRF", ("ToRGBLayer",), ("modfc",), _to_rgb_misfit,
        guarded_forward(_covers_to_rgb, _to_rgb), _rows_trial,
    ),
    Adapter(
        "StyleNeRF", ("SynthesisLayer",), ("modfc",), _synthesis_misfit,
        guarded_forward(_covers_synthesis, _synthesis), _rows_trial,
    ),
)  # fmt: skip
