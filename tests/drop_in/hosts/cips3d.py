"""CIPS-3D's FiLM layers and modulated layers."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from tests.drop_in.hosts.common import EqualLinear


class LinearScale(nn.Module):
    def __init__(self, scale, bias):
        super().__init__()
        self.scale_v, self.bias_v = scale, bias

    def forward(self, x):
        return x * self.scale_v + self.bias_v


class FiLMLayer(nn.Module):
    def __init__(self, in_dim, out_dim, style_dim, use_style_fc=True):
        super().__init__()
        self.use_style_fc = use_style_fc
        self.linear = nn.Linear(in_dim, out_dim)
        self.gain_scale = LinearScale(15, 30)
        self.style_dim = style_dim if use_style_fc else 2 * out_dim
        if use_style_fc:
            self.gain_fc, self.bias_fc = nn.Linear(style_dim, out_dim), nn.Linear(style_dim, out_dim)

    def films(self, x, style):
        gain, bias = (self.gain_fc(style), self.bias_fc(style)) if self.use_style_fc else style.chunk(2, 1)
        return (gain[:, None], bias[:, None]) if x.dim() == 3 else (gain, bias)

    def forward(self, x, style):
        gain, bias = self.films(x, style)
        return torch.sin(self.gain_scale(gain) * self.linear(x) + bias)


class FiLMLayer_PreSin(FiLMLayer):
    def forward(self, x, style):
        gain, bias = self.films(x, style)
        return gain * torch.sin(self.linear(x)) + bias


def generator_film_layer():
    """The generator's own class of that name: normalised, with a leaky ReLU."""

    class FiLMLayer(globals()["FiLMLayer"]):
        def forward(self, x, style):
            gain, bias = self.films(x, style)
            x = self.linear(x)
            return F.leaky_relu((gain + 1) * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-8) + bias, 0.2)

    return FiLMLayer(3, 4, 5)


class SinStyleMod(nn.Module):
    adds_one_without_fc = True  # in the bmm form

    def __init__(self, in_channel, out_channel, kernel_size=1, style_dim=None, use_style_fc=False, demodulate=True,
                 use_group_conv=False, eps=1e-8):  # fmt: skip
        super().__init__()
        self.eps, self.in_channel, self.out_channel, self.kernel_size = eps, in_channel, out_channel, kernel_size
        self.use_style_fc, self.demodulate, self.use_group_conv = use_style_fc, demodulate, use_group_conv
        self.style_dim = style_dim if use_style_fc else in_channel
        grouped = (1, out_channel, in_channel, kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.randn(grouped if use_group_conv else (1, in_channel, out_channel)))
        if use_style_fc:
            self.modulation = self.style_map(style_dim, in_channel)
        self.norm = nn.LayerNorm(in_channel)  # never called

    style_map = nn.Linear
    weight_scale = 1.0

    def modulated(self, style, one):
        """[B,I,O]"""
        style = self.modulation(style) + 1 if self.use_style_fc else style + one
        weight = self.weight[:, :, :, 0, 0].mT if self.use_group_conv else self.weight
        weight = self.weight_scale * weight * style[:, :, None]
        return weight * torch.rsqrt(weight.square().sum(1, True) + self.eps) if self.demodulate else weight

    def forward(self, x, style, force_bmm=False):
        if self.use_group_conv and not force_bmm:
            points = x if x.dim() < 4 else x.flatten(2).mT
            y = self.product(points, self.modulated(style, 0.0))
            return y if x.dim() < 4 else y.mT.reshape(x.shape[0], -1, *x.shape[2:])
        assert x.dim() in (2, 3)
        return self.product(x, self.modulated(style, 1.0 if self.adds_one_without_fc else 0.0))

    def product(self, x, weight):
        return torch.bmm(x, weight) if x.dim() == 3 else torch.bmm(x[:, None], weight)[:, 0]


class Modulated_FC_Conv(SinStyleMod):
    adds_one_without_fc = False

    def __init__(self, *args, scale=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.scale = 1 / math.sqrt(self.in_channel) if scale is None else scale
        del self.norm

    @staticmethod
    def style_map(style_dim, in_channel):
        return EqualLinear(style_dim, in_channel, bias_init=1)

    @property
    def weight_scale(self):
        return self.scale
