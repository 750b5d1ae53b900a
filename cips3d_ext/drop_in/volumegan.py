"""VolumeGAN (arXiv 2112.10759, github.com/genforce/volumegan): its modulated 1x1 convolution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._adapter import Adapter, guarded_forward, unlike
from ._covers import dense, worthwhile
from ._layers import modfc_channels_first
from .pigan_rendering import sample_pdf as sample_pdf
from .stylegan import ACTIVATIONS, SMALL, kernel_misfit
from .volumegan_rendering import grid_sample_3d as grid_sample_3d
from .volumegan_rendering import interpolate_feature as interpolate_feature
from .volumegan_rendering import renderer as renderer


def _modulate(
    module: Any,
    x: Tensor,
    w: Tensor,
    runtime_gain: float = 1.0,
    noise_mode: str = "const",
    fused_modulate: bool = False,
    impl: str = "cuda",
) -> tuple[Tensor, Tensor]:
    style, noise, noise_mode = module.forward_style(w, impl=impl), None, noise_mode.lower()
    if module.noise_type != "none" and noise_mode != "none":
        noise = module.noise
        if noise_mode == "random":
            noise = torch.randn((x.shape[0], *noise.shape[1:]), device=x.device)
        noise = noise * module.noise_strength
    bias = None if module.bias is None else module.bias * module.bscale
    options: dict[str, Any] = {"demodulate": module.demodulate, "eps": module.eps, "clamp": module.conv_clamp}
    if module.activation_type != "linear":
        clamp = None if module.conv_clamp is None else module.conv_clamp * runtime_gain
        gain = module.act_gain * runtime_gain
        options |= {"activation": module.activation_type, "gain": gain, "clamp": clamp}
    modulation = style if module.demodulate else style * module.wscale
    return modfc_channels_first(x, module.weight[:, :, 0, 0], modulation, bias, noise, **options), style


def _covers(
    module: Any,
    x: Any,
    w: Any,
    runtime_gain: float = 1.0,
    noise_mode: str = "const",
    fused_modulate: bool = False,
    impl: str = "cuda",
) -> bool:
    noisy = module.noise_type != "none" and noise_mode.lower() != "none"
    return (
        dense(x, w, module.weight)
        and w.dtype == torch.float32  # others the layer refuses itself
        and not torch.is_autocast_enabled(x.device.type)
        and x.dim() == 4
        and x.shape[1] == module.weight.shape[1]
        and worthwhile(x, module.weight.shape[0])
        and noise_mode.lower() in ("const", "random", "none")
        and (not noisy or x.shape[2:] == module.noise.shape[2:])
    )


def _misfit(module: Any) -> str:
    names = ("weight", "bias", "style", "forward_style", "w_dim", "scale_factor", "demodulate", "eps", "noise_type")
    if reason := unlike(module, _modulate, *names) or kernel_misfit(module):
        return reason
    if module.scale_factor != 1:
        return "it upsamples between the product and the activation"
    if module.w_dim == 0:
        return "it has no style: a plain convolution"
    if module.noise_type == "channel":
        return "its noise has a value for each channel"
    return "" if module.activation_type in ACTIVATIONS else f"modfc has no activation {module.activation_type}"


def _trial(shadow: Any) -> tuple[Any, ...]:
    if shadow.noise_type != "none":
        shadow.noise = torch.randn(1, 1, SMALL, SMALL)
    return torch.randn(2, shadow.weight.shape[1], SMALL, SMALL), torch.randn(2, shadow.w_dim)


ADAPTERS = (
    Adapter("VolumeGAN", ("ModulateConvLayer",), ("modfc",), _misfit, guarded_forward(_covers, _modulate), _trial),
)
