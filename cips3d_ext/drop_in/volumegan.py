"""VolumeGAN (arXiv 2112.10759, github.com/genforce/volumegan): its modulated 1x1 convolution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..ops._autocast import autocast_on
from ._adapter import Adapter, guarded_forward, unlike
from ._covers import dense, enough_channels, plain
from ._layers import modfc_channels_first
from .pigan_rendering import sample_pdf as sample_pdf
from .stylegan import ACTIVATIONS, SMALL, activation_misfit, kernel_misfit, require_linear, require_noise_mode
from .volumegan_rendering import HierarchicalSampling as HierarchicalSampling
from .volumegan_rendering import Renderer as Renderer
from .volumegan_rendering import grid_sample_3d as grid_sample_3d
from .volumegan_rendering import interpolate_feature as interpolate_feature
from .volumegan_rendering import renderer as renderer

_SPACES = ("W", "Y")  # of the codes: W for the style's linear layer, Y are styles already


class DenseLayer(nn.Module):
    """x (wscale weight)^T + lr_mul bias, VolumeGAN's with activation linear: its equalised learning rate and keys."""

    def __init__(
        self, in_channels: int, out_channels: int, init_bias: float, use_wscale: bool, wscale_gain: float, lr_mul: float
    ) -> None:
        super().__init__()
        self.wscale, self.bscale, deviation = weight_scale(in_channels, use_wscale, wscale_gain, lr_mul)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels) * deviation)
        self.bias = nn.Parameter(torch.full([out_channels], init_bias / lr_mul))

    def forward(self, x: Tensor) -> Tensor:
        """x [B,I] -> [B,O]."""
        return nn.functional.linear(x, self.weight * self.wscale, self.bias * self.bscale)


def weight_scale(inputs: int, use_wscale: bool, gain: float, lr_mul: float) -> tuple[float, float, float]:
    """What weights and biases are multiplied with at every call, and the deviation of fresh weights."""
    scale = gain * inputs**-0.5
    return (scale * lr_mul, lr_mul, 1 / lr_mul) if use_wscale else (lr_mul, lr_mul, scale / lr_mul)


class ModulateConvLayer(nn.Module):
    """A modulated layer of VolumeGAN, with its constructor, keys and forward, which returns the style too.

    kernel_size and scale_factor must be 1, w_dim positive, noise_type none or spatial, activation_type linear, relu or
    lrelu. `space_of_latent` "Y" takes w for the styles themselves, as the host's.
    """

    space_of_latent = "W"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        resolution: int,
        w_dim: int,
        kernel_size: int,
        add_bias: bool,
        scale_factor: int,
        filter_kernel: Any,
        demodulate: bool,
        use_wscale: bool,
        wscale_gain: float,
        lr_mul: float,
        noise_type: str,
        activation_type: str,
        conv_clamp: float | None,
        eps: float,
    ) -> None:
        super().__init__()
        kernels = {"kernel_size": (kernel_size, 1), "scale_factor": (scale_factor, 1)}
        require_linear("ModulateConvLayer", activation_type, **kernels)
        self.noise_type = noise_type.lower()
        if w_dim <= 0 or self.noise_type not in ("none", "spatial"):
            wanted = "w_dim must be positive and noise_type none or spatial"
            raise ValueError(f"ModulateConvLayer: {wanted}, got {w_dim} and {noise_type!r}")
        self.w_dim, self.scale_factor, self.demodulate, self.eps = w_dim, scale_factor, demodulate, eps
        self.activation_type, self.act_gain, self.conv_clamp = activation_type, ACTIVATIONS[activation_type], conv_clamp
        self.wscale, self.bscale, deviation = weight_scale(in_channels, use_wscale, wscale_gain, lr_mul)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1) * deviation)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if add_bias else None
        self.style = DenseLayer(w_dim, in_channels, 1.0, use_wscale, wscale_gain, lr_mul)
        if self.noise_type == "spatial":
            self.noise_strength = nn.Parameter(torch.zeros(()))
            self.register_buffer("noise", torch.randn(1, 1, resolution, resolution))

    def forward_style(self, w: Tensor, impl: str = "cuda") -> Tensor:
        """Codes w [B,w_dim], or styles with "Y", -> styles [B,I]."""
        if self.space_of_latent.upper() not in _SPACES:
            raise ValueError(f"ModulateConvLayer: space_of_latent must be W or Y, got {self.space_of_latent!r}")
        return self.style(w) if self.space_of_latent.upper() == "W" else w[:, : self.weight.shape[1]]

    def forward(
        self,
        x: Tensor,
        w: Tensor,
        runtime_gain: float = 1.0,
        noise_mode: str = "const",
        fused_modulate: bool = False,
        impl: str = "cuda",
    ) -> tuple[Tensor, Tensor]:
        """x [B,I,H,W], codes w [B,w_dim] -> [B,O,H,W] and the style [B,I]; noise_mode: random, const or none."""
        require_noise_mode(noise_mode.lower())
        return _modulate(self, x, w, runtime_gain, noise_mode, fused_modulate, impl)


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
        gain = ACTIVATIONS[module.activation_type] * runtime_gain
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
        and not autocast_on(x)
        and x.dim() == 4
        and x.shape[1] == module.weight.shape[1]
        and enough_channels(x, module.weight.shape[0])
        and noise_mode.lower() in ("const", "random", "none")
        and plain(runtime_gain)
        and (not noisy or x.shape[2:] == module.noise.shape[2:])
    )


def _misfit(module: Any) -> str:
    names = ("weight", "bias", "style", "forward_style", "w_dim", "scale_factor", "demodulate", "eps", "noise_type",
             "activation_type", "act_gain")  # fmt: skip
    if reason := unlike(module, _modulate, *names) or kernel_misfit(module):
        return reason
    if module.scale_factor != 1:
        return "it upsamples between the product and the activation"
    if module.w_dim == 0:
        return "it has no style: a plain convolution"
    if module.noise_type == "channel":
        return "its noise has a value for each channel"
    return activation_misfit(module.activation_type, module.act_gain)


def _trial(shadow: Any) -> tuple[Any, ...]:
    if shadow.noise_type != "none":
        shadow.noise = torch.randn(1, 1, SMALL, SMALL)
    return torch.randn(2, shadow.weight.shape[1], SMALL, SMALL), torch.randn(2, shadow.w_dim)


ADAPTERS = (
    Adapter("VolumeGAN", ("ModulateConvLayer",), ("modfc",), _misfit, guarded_forward(_covers, _modulate), _trial),
)
