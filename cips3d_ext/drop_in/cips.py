"""CIPS (arXiv 2011.13775, github.com/saic-mdal/CIPS), rosinality's StyleGAN2 and those that go on from it.

Of StyleSDF's and CIPS-3D++'s decoders, too: ModulatedConv2d of 1x1 kernels, the StyledConv around it with noise, bias
and activation, ToRGB, and CIPS's LFF, a sine of a 1x1 convolution of coordinates.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ._adapter import Adapter, guarded_forward, lacks, unlike
from ._covers import autocast_dtype, dense, one_dtype, unhooked, worthwhile
from ._layers import EqualLinear, film_channels_first, modfc_channels_first

_LRELU = {"activation": "lrelu", "alpha": 0.2}


class ModulatedConv1x1(nn.Module):
    """rosinality's, CIPS's and StyleSDF's ModulatedConv2d with a kernel of 1: their keys and forward."""

    upsample = downsample = False
    kernel_size = 1

    def __init__(self, in_channel: int, out_channel: int, style_dim: int, demodulate: bool = True) -> None:
        super().__init__()
        self.demodulate, self.scale = demodulate, in_channel**-0.5
        self.weight = nn.Parameter(torch.randn(1, out_channel, in_channel, 1, 1))
        self.modulation = EqualLinear(style_dim, in_channel, bias_init=1)

    def forward(self, input: Tensor, style: Tensor) -> Tensor:
        """input [B,I,H,W], style [B,style_dim] -> [B,O,H,W]."""
        return _conv(self, input, style)


def _convolve(conv: Any, input: Tensor, style: Tensor, **epilogue: Any) -> Tensor:
    """The 1x1 modulated convolution of conv and what follows it, noise to activation."""
    weight = conv.weight[0, :, :, 0, 0]
    options = {"scale": conv.scale, "demodulate": conv.demodulate}
    return modfc_channels_first(input, weight, conv.modulation(style), **options, **epilogue)


def _conv(module: Any, input: Tensor, style: Tensor) -> Tensor:
    return _convolve(module, input, style)


def _styled(
    module: Any, input: Tensor, style: Tensor, noise: Any = None, transform: Any = None, mesh_path: Any = None
) -> Tensor:
    batch, _, height, width = input.shape
    if noise is None:  # the same draw as of the convolution's result, which has the input's dtype
        noise = input.new_empty(batch, 1, height, width).normal_()
    epilogue = {"noise": module.noise.weight * noise}
    activate = module.activate
    if type(activate).__name__ == "FusedLeakyReLU":
        y = _convolve(module.conv, input, style, **epilogue, bias=activate.bias, gain=activate.scale, **_LRELU)
        return y
    bias = module.bias.flatten()
    if type(activate).__name__ == "SinActivation":
        return _convolve(module.conv, input, style, **epilogue, bias=bias, activation="sin")
    return activate(_convolve(module.conv, input, style, **epilogue, bias=bias))


def _to_rgb(module: Any, input: Tensor, style: Tensor, skip: Any = None) -> Tensor:
    y = _convolve(module.conv, input, style, bias=module.bias.flatten())
    if skip is None:
        return y
    return y + (module.upsample(skip) if module.upsample else skip)


def _lff(module: Any, x: Tensor) -> Tensor:
    return film_channels_first(x, module.ffm.conv.weight[:, :, 0, 0], module.ffm.conv.bias)


def _covers(conv: Any, input: Any, style: Any) -> bool:
    return (
        dense(input, style, conv.weight)
        and input.dim() == 4
        and style.dim() == 2
        and style.shape[0] == input.shape[0]
        and one_dtype(input, style, conv.weight)
        and worthwhile(input, conv.weight.shape[1])
    )


def _covers_styled(
    module: Any, input: Any, style: Any, noise: Any = None, transform: Any = None, mesh_path: Any = None
) -> bool:
    # Under autocast noise and bias bring the host's result back to float32; its inner convolution alone is ours then.
    return (
        _covers(module.conv, input, style)
        and autocast_dtype(input) is None
        and unhooked(module.conv, module.noise, module.activate)
        and (noise is None or _is_picture_noise(module, noise, input))
    )


def _is_picture_noise(module: Any, noise: Any, input: Tensor) -> bool:
    return (
        not getattr(module.noise, "project", False)
        and dense(noise, input)
        and noise.dtype == input.dtype
        and noise.shape[1:] == (1, *input.shape[2:])
        and noise.shape[0] in (1, input.shape[0])
    )


def _covers_to_rgb(module: Any, input: Any, style: Any, skip: Any = None) -> bool:
    return _covers(module.conv, input, style) and autocast_dtype(input) is None and unhooked(module.conv)


def _covers_lff(module: Any, x: Any) -> bool:
    weight = module.ffm.conv.weight
    return (
        dense(x, weight)
        and x.dim() == 4
        and one_dtype(x, weight)
        and unhooked(module.ffm, module.ffm.conv, module.activation)
    )


def _conv_misfit(conv: Any) -> str:
    names = ("weight", "modulation", "scale", "demodulate", "kernel_size", "upsample", "downsample")
    if reason := unlike(conv, _conv, *names):
        return reason
    if conv.weight.dim() != 5 or conv.kernel_size != 1:
        return f"its kernel is {conv.kernel_size}x{conv.kernel_size}, only 1x1 is a modulated linear layer"
    return "it changes the resolution" if conv.upsample or conv.downsample else ""


def _styled_misfit(module: Any) -> str:
    if reason := unlike(module, _styled, "conv", "noise", "activate"):
        return reason
    return _conv_misfit(module.conv) or lacks(module.noise, "weight")


def _to_rgb_misfit(module: Any) -> str:
    if reason := unlike(module, _to_rgb, "conv", "bias", "upsample"):
        return reason
    return _conv_misfit(module.conv)


def _lff_misfit(module: Any) -> str:
    if reason := unlike(module, _lff, "ffm", "activation") or lacks(module.ffm, "conv"):
        return reason
    conv = module.ffm.conv
    return "" if type(conv) is nn.Conv2d and conv.kernel_size == (1, 1) else "its ffm is no 1x1 convolution"


def _conv_trial(conv: Any) -> tuple[Any, ...]:
    _, _, inputs, _, _ = conv.weight.shape
    return torch.randn(2, inputs, 2, 3), torch.randn(2, conv.modulation.weight.shape[1])


ADAPTERS = (
    Adapter(
        "CIPS", ("ModulatedConv2d",), ("modfc",), _conv_misfit,
        guarded_forward(_covers, _conv), _conv_trial,
    ),
    Adapter(
        "CIPS", ("StyledConv",), ("modfc",), _styled_misfit,
        guarded_forward(_covers_styled, _styled), lambda shadow: _conv_trial(shadow.conv),
    ),
    Adapter(
        "CIPS", ("ToRGB",), ("modfc",), _to_rgb_misfit,
        guarded_forward(_covers_to_rgb, _to_rgb), lambda shadow: _conv_trial(shadow.conv),
    ),
    Adapter(
        "CIPS", ("LFF",), ("film_sine",), _lff_misfit,
        guarded_forward(_covers_lff, _lff), lambda shadow: (torch.randn(2, shadow.ffm.conv.weight.shape[1], 2, 3),),
    ),
)  # fmt: skip
