"""StyleGAN2's generator layers: 3x3 modulated convolution with noise, 1x1 colours by `cips3d_ext.modfc`.

StyleGAN2 (arXiv 1912.04958) in the form that EG3D (arXiv 2112.07945) publishes. Parameters are named and shaped as in
its public code, so its state dicts fit. All layers can be differentiated twice.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cips3d.models.discriminator import LRELU_GAIN, LRELU_SLOPE, Blur, EqualLinear
from cips3d_ext import modfc

DEMODULATION_EPS = 1e-8
UPSAMPLING_GAIN = 4.0  # zeros between the pixels take three quarters of the signal away
KERNEL = 3


def modulated_conv2d(x: Tensor, weight: Tensor, style: Tensor, upsample: bool, blur: Blur) -> Tensor:
    """Demodulated 3x3 convolution with the weights W_b = weight * style_b of each sample, on [B,H,W] or twice the side.

    x [B,I,H,W], weight [O,I,3,3], style [B,I] -> [B,O,H,W], or [B,O,2H,2W]: the transposed convolution of stride 2,
    low-passed by `blur`. The style multiplies x and the demodulation rsqrt(sum W_b^2 + eps) multiplies y, so that one
    convolution serves all samples: their own weights are never written down.
    """
    x = x * style[..., None, None]
    y = blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)) * UPSAMPLING_GAIN if upsample else None
    y = F.conv2d(x, weight, padding=KERNEL // 2) if y is None else y
    norms = style.square() @ weight.square().sum((2, 3)).T
    return y * torch.rsqrt(norms + DEMODULATION_EPS)[..., None, None]


class StyledConv(nn.Module):
    """clamp(sqrt(2) * leaky_relu(modulated_conv2d(x, affine(w)) + strength * noise + bias)); public: SynthesisLayer."""

    noise_const: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        upsample: bool = False,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.resolution, self.upsample, self.clamp = resolution, upsample, clamp
        self.affine = EqualLinear(w_dim, in_channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, KERNEL, KERNEL))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.blur = Blur(padding=1)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """[B,I,H,W] and w [B,W] -> [B,O,H,W], or twice the side; `noise` broadcastable to [B,1,H,W], None: none."""
        y = modulated_conv2d(x, self.weight, self.affine(w), self.upsample, self.blur)
        if noise is not None:
            y = y + noise * self.noise_strength
        y = F.leaky_relu(y + self.bias[:, None, None], LRELU_SLOPE) * LRELU_GAIN
        return y if self.clamp is None else y.clamp(-self.clamp, self.clamp)


class ToColours(nn.Module):
    """Modulated 1x1 convolution without demodulation: [B,I,H,W] and w [B,W] -> [B,O,H,W]; public: ToRGBLayer."""

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, clamp: float | None, impl: str) -> None:
        super().__init__()
        self.clamp, self.impl = clamp, impl
        self.affine = EqualLinear(w_dim, in_channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        y = modfc(
            x.flatten(2),
            self.weight.flatten(1),
            self.affine(w),
            self.bias,
            scale=1.0 / math.sqrt(self.weight.shape[1]),
            demodulate=False,
            clamp=self.clamp,
            channels_first=True,
            impl=self.impl,
        )
        return y.unflatten(2, x.shape[2:])
