"""CIPS's and rosinality's modulated convolutions and what is around them."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from tests.drop_in.hosts.common import EqualLinear


class ModulatedConv2d(nn.Module):
    def __init__(self, in_channel, out_channel, kernel_size, style_dim, demodulate=True, upsample=False):
        super().__init__()
        self.in_channel, self.out_channel, self.kernel_size = in_channel, out_channel, kernel_size
        self.upsample, self.downsample, self.demodulate = upsample, False, demodulate
        self.scale = 1 / math.sqrt(in_channel * kernel_size**2)
        self.weight = nn.Parameter(torch.randn(1, out_channel, in_channel, kernel_size, kernel_size))
        self.modulation = EqualLinear(style_dim, in_channel, bias_init=1)

    def forward(self, input, style):
        B, I, H, W = input.shape
        weight = self.scale * self.weight * self.modulation(style).view(B, 1, I, 1, 1)
        if self.demodulate:
            weight = weight * torch.rsqrt(weight.square().sum([2, 3, 4], keepdim=True) + 1e-8)
        weight = weight.view(B * self.out_channel, I, self.kernel_size, self.kernel_size)
        y = F.conv2d(input.view(1, B * I, H, W), weight, padding=self.kernel_size // 2, groups=B)
        return y.view(B, self.out_channel, H, W)


def with_style_returned():
    """Another repository's, whose forward returns the style, too."""

    class ModulatedConv2d(globals()["ModulatedConv2d"]):
        def forward(self, input, style):
            return super().forward(input, style), style

    return ModulatedConv2d(4, 5, 1, 6)


class NoiseInjection(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, image, noise=None):
        if noise is None:
            noise = image.new_empty(image.shape[0], 1, *image.shape[2:]).normal_()
        return image + self.weight * noise


class FusedLeakyReLU(nn.Module):
    def __init__(self, channel, negative_slope=0.2, scale=2**0.5):
        super().__init__()
        self.bias, self.negative_slope, self.scale = nn.Parameter(torch.zeros(channel)), negative_slope, scale

    def forward(self, input):
        return F.leaky_relu(input + self.bias.view(1, -1, 1, 1), self.negative_slope) * self.scale


class SinActivation(nn.Module):
    def forward(self, x):
        return torch.sin(x)


class ScaledLeakyReLUSin(nn.Module):
    def forward(self, x):
        return torch.cat([F.leaky_relu(x[:, ::2], 0.2), torch.sin(x[:, 1::2])], 1) * 2**0.5


class StyledConv(nn.Module):
    def __init__(self, in_channel, out_channel, kernel_size, style_dim, activation=None):
        super().__init__()
        self.conv = ModulatedConv2d(in_channel, out_channel, kernel_size, style_dim)
        self.activation = activation
        self.noise = NoiseInjection()
        if activation:
            self.bias = nn.Parameter(torch.zeros(1, out_channel, 1, 1))
        self.activate = {"sin": SinActivation, "sinrelu": ScaledLeakyReLUSin}.get(
            activation, lambda: FusedLeakyReLU(out_channel)
        )()

    def forward(self, input, style, noise=None):
        y = self.noise(self.conv(input, style), noise=noise)
        return self.activate(y + self.bias if self.activation else y)


class ToRGB(nn.Module):
    def __init__(self, in_channel, out_channel, style_dim, upsample=False):
        super().__init__()
        self.upsample = nn.Upsample(scale_factor=2) if upsample else False
        self.conv = ModulatedConv2d(in_channel, out_channel, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, out_channel, 1, 1))

    def forward(self, input, style, skip=None):
        y = self.conv(input, style) + self.bias
        return y if skip is None else y + (self.upsample(skip) if self.upsample else skip)


def first_to_rgb(in_channel, out_channel, style_dim):
    """rosinality's first one: nothing comes before it, and it has nothing to upsample with."""
    layer = ToRGB(in_channel, out_channel, style_dim)
    del layer.upsample
    return layer


class BoundedToRGB(ToRGB):
    """Another repository's, called ToRGB there."""

    def forward(self, input, style, skip=None):
        return torch.tanh(super().forward(input, style, skip))


class ConLinear(nn.Module):
    def __init__(self, ch_in, ch_out):
        super().__init__()
        self.conv = nn.Conv2d(ch_in, ch_out, kernel_size=1)

    def forward(self, x):
        return self.conv(x)


class LFF(nn.Module):
    def __init__(self, hidden_size):
        super().__init__()
        self.ffm, self.activation = ConLinear(2, hidden_size), SinActivation()

    def forward(self, x):
        return self.activation(self.ffm(x))
