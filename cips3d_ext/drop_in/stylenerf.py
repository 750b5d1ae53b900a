"""StyleNeRF (arXiv 2110.08985, github.com/facebookresearch/StyleNeRF): 1x1 modulated layers.

Style2Layer of its NeRF, ToRGBLayer and SynthesisLayer. Samples of rays are rows of the batch there: x has
B * samples rows and w B, each code serves `samples` consecutive rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._adapter import Adapter, guarded_forward, lacks, unlike
from ._covers import dense, worthwhile
from ._layers import modfc_channels_first
from .pigan_rendering import sample_pdf as sample_pdf
from .stylegan import activation_misfit, kernel_misfit, picture_trial, synthesis_options
from .stylenerf_rendering import calc_volume_weights as calc_volume_weights
from .stylenerf_rendering import query_input_features as query_input_features


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
    return up == 1 and _covers_rows(module, x, w)


def _covers_rows(module: Any, x: Any, w: Any) -> bool:
    return (
        dense(x, w, module.weight)
        and x.dim() == 4
        and w.dim() == 2
        and w.shape[0] > 0
        and x.shape[0] % w.shape[0] == 0
        and x.shape[1] == module.weight.shape[1]
        and worthwhile(x, module.weight.shape[0])
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
    if module.use_noise and noise_mode == "random":
        noise = torch.randn([x.shape[0], 1, *x.shape[2:]], device=x.device) * module.noise_strength
    if module.use_noise and noise_mode == "const":
        noise = (module.noise_const * module.noise_strength)[None, None]
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
        and not skip_up
        and input_noise is None
        and _covers_rows(module, x, w)
        and (not constant or x.shape[2:] == module.noise_const.shape)
    )


def _style2_misfit(module: Any) -> str:
    if reason := unlike(module, _style2, "w_dim", "weight", "bias", "magnitude_ema_beta"):
        return reason
    if module.w_dim == 0:
        return "it has no style: a plain linear layer"
    names = ("affine", "activation", "act_gain", "conv_clamp")
    return lacks(module, *names) or kernel_misfit(module) or activation_misfit(module)


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
    return lacks(module, "activation", "act_gain", "conv_clamp") or activation_misfit(module)


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
