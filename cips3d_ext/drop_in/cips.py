"""CIPS (arXiv 2011.13775, github.com/saic-mdal/CIPS), rosinality's StyleGAN2 and those that go on from it.

Of StyleSDF's and CIPS-3D++'s decoders, too: ModulatedConv2d of 1x1 kernels, the StyledConv around it with noise, bias
and activation, ToRGB, and CIPS's LFF, a sine of a 1x1 convolution of coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ._adapter import Adapter, guarded_forward, lacks, unlike
from ._covers import autocast_dtype, dense, enough_channels, one_dtype, unhooked
from ._layers import EqualLinear, modfc_channels_first

_SLOPE = 0.2
_LRELU = {"activation": "lrelu", "alpha": _SLOPE}
_COLOURS = 3
_COORDINATES = 2
_FREQUENCY_BOUND = 3.0  # of the first layer's weights, times 1 / sqrt(coordinates)
_BLUR = (1, 3, 3, 1)


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


class NoiseInjection(nn.Module):
    """image + weight * noise; the noise is drawn in evaluation, too."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, image: Tensor, noise: Tensor | None = None) -> Tensor:
        """image [B,C,H,W], noise [B,1,H,W] or drawn -> [B,C,H,W]."""
        if noise is None:
            noise = image.new_empty(image.shape[0], 1, *image.shape[2:]).normal_()
        return image + self.weight * noise


class FusedLeakyReLU(nn.Module):
    """sqrt(2) lrelu(input + bias)."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.bias, self.scale = nn.Parameter(torch.zeros(channel)), math.sqrt(2)

    def forward(self, input: Tensor) -> Tensor:
        """input [B,C,H,W] -> the same."""
        return nn.functional.leaky_relu(input + self.bias[:, None, None], _SLOPE) * self.scale


class SinActivation(nn.Module):
    """sin(x)."""

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape -> the same."""
        return torch.sin(x)


class ScaledLeakyReLUSin(nn.Module):
    """sqrt(2) times lrelu of the even channels, then sin of the odd ones."""

    def forward(self, input: Tensor) -> Tensor:
        """input [B,C,*] -> the same."""
        rectified = nn.functional.leaky_relu(input[:, ::2], _SLOPE)
        return math.sqrt(2) * torch.cat([rectified, torch.sin(input[:, 1::2])], 1)


class StyledConv(nn.Module):
    """CIPS's: modulated convolution of 1x1 kernels, noise, bias and activation, with its constructor, keys and forward.

    activation: None for sqrt(2) lrelu, "sin", or "sinrelu" for one on the even and the other on the odd channels.
    """

    def __init__(
        self,
        in_channel: int,
        out_channel: int,
        kernel_size: int,
        style_dim: int,
        upsample: bool = False,
        blur_kernel: Sequence[int] = _BLUR,
        demodulate: bool = True,
        activation: str | None = None,
        downsample: bool = False,
    ) -> None:
        super().__init__()
        if kernel_size != 1 or upsample or downsample:
            raise ValueError(
                "StyledConv: kernel_size must be 1 and the resolution one; else take the host's layer: "
                f"got {kernel_size=}, {upsample=}, {downsample=}"
            )
        if activation not in (None, "sin", "sinrelu"):
            raise ValueError(f"StyledConv: activation must be None, 'sin' or 'sinrelu', got {activation!r}")
        self.conv = ModulatedConv1x1(in_channel, out_channel, style_dim, demodulate)
        self.noise = NoiseInjection()
        if activation is None:
            self.activate: nn.Module = FusedLeakyReLU(out_channel)
        else:
            self.bias = nn.Parameter(torch.zeros(1, out_channel, 1, 1))
            self.activate = SinActivation() if activation == "sin" else ScaledLeakyReLUSin()

    def forward(self, input: Tensor, style: Tensor, noise: Tensor | None = None) -> Tensor:
        """input [B,I,H,W], style [B,style_dim], noise [B,1,H,W] or drawn -> [B,O,H,W]."""
        if _covers_styled(self, input, style, noise):
            return _styled(self, input, style, noise)
        y = self.noise(self.conv(input, style), noise)
        return self.activate(y + self.bias if hasattr(self, "bias") else y)


class Upsample(nn.Module):
    """Twice the resolution, by a filter."""

    kernel: Tensor

    def __init__(self, kernel: Sequence[int]) -> None:
        super().__init__()
        taps = torch.tensor(kernel, dtype=torch.float32)
        self.register_buffer("kernel", 4 * taps[:, None] * taps / taps.sum() ** 2)

    def forward(self, input: Tensor) -> Tensor:
        """input [B,C,H,W] -> [B,C,2H,2W]."""
        channels = input.shape[1]
        kernel = self.kernel.to(input.dtype).expand(channels, 1, *self.kernel.shape)
        return nn.functional.conv_transpose2d(input, kernel, stride=2, padding=1, groups=channels)


class ToRGB(nn.Module):
    """rosinality's, CIPS's and StyleSDF's: colours, added to those of the resolution below or beside."""

    def __init__(
        self, in_channel: int, style_dim: int, upsample: bool = True, blur_kernel: Sequence[int] = _BLUR
    ) -> None:
        super().__init__()
        if upsample and len(blur_kernel) != len(_BLUR):
            raise ValueError(f"ToRGB: blur_kernel must have {len(_BLUR)} taps, got {list(blur_kernel)}")
        self.upsample: Upsample | Literal[False] = Upsample(blur_kernel) if upsample else False
        self.conv = ModulatedConv1x1(in_channel, _COLOURS, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, _COLOURS, 1, 1))

    def forward(self, input: Tensor, style: Tensor, skip: Tensor | None = None) -> Tensor:
        """input [B,I,H,W], style [B,style_dim], skip [B,3,H,W], with upsample [B,3,H/2,W/2] -> [B,3,H,W]."""
        if _covers_to_rgb(self, input, style, skip):
            return _to_rgb(self, input, style, skip)
        y = self.conv(input, style) + self.bias
        if skip is None:
            return y
        return y + (self.upsample(skip) if self.upsample else skip)


class ConLinear(nn.Module):
    """A 1x1 convolution."""

    def __init__(self, ch_in: int, ch_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(ch_in, ch_out, kernel_size=1)
        bound = _FREQUENCY_BOUND / math.sqrt(ch_in)
        nn.init.uniform_(self.conv.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """x [B,I,H,W] -> [B,O,H,W]."""
        return self.conv(x)


class LFF(nn.Module):
    """CIPS's Fourier features: the sine of a 1x1 convolution of coordinates, with its constructor, keys and forward."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.ffm, self.activation = ConLinear(_COORDINATES, hidden_size), SinActivation()

    def forward(self, x: Tensor) -> Tensor:
        """Coordinates x [B,2,H,W] -> [B,hidden_size,H,W]."""
        return _lff(self, x)


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
    weight, bias = module.ffm.conv.weight[:, :, 0, 0], module.ffm.conv.bias
    return modfc_channels_first(x, weight, x.new_ones(x.shape[:2]), bias, demodulate=False, activation="sin")


def _covers(conv: Any, input: Any, style: Any) -> bool:
    return (
        dense(input, style, conv.weight)
        and input.dim() == 4
        and style.dim() == 2
        and style.shape[0] == input.shape[0]
        and one_dtype(input, style, conv.weight)
        and enough_channels(input, conv.weight.shape[1])
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
    known = skip is None or hasattr(module, "upsample")  # which rosinality's first one does not have
    return known and _covers(module.conv, input, style) and autocast_dtype(input) is None and unhooked(module.conv)


def _covers_lff(module: Any, x: Any) -> bool:
    if type(module.ffm.conv) is not nn.Conv2d:
        return False
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
    if reason := unlike(module, _to_rgb, "conv", "bias"):
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
        "CIPS", ("LFF",), ("modfc",), _lff_misfit,
        guarded_forward(_covers_lff, _lff), lambda shadow: (torch.randn(2, shadow.ffm.conv.weight.shape[1], 2, 3),),
    ),
)  # fmt: skip
