"""EpiGRAF's INR layers, on [B,I,N]."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from tests.drop_in.hosts.common import (
    ACTIVATION_GAINS,
    FullyConnectedLayer,
    bias_act,
    modulated_conv2d,
    persistent_class,
)


def style_modulate_linear(x, weight, styles, demodulate=True):
    y = modulated_conv2d(x[..., None], weight[:, :, None, None], styles, demodulate=demodulate, fused_modconv=False)
    return y[..., 0]


@persistent_class
class SynthesisLayer(nn.Module):
    def __init__(self, in_channels, out_channels, w_dim, activation="lrelu", conv_clamp=None, fmm_rank=0):
        super().__init__()
        self.cfg = SimpleNamespace(fmm=SimpleNamespace(enabled=fmm_rank > 0, rank=fmm_rank))
        self.activation, self.conv_clamp, self.act_gain = activation, conv_clamp, ACTIVATION_GAINS[activation]
        widths = (in_channels + out_channels) * fmm_rank if fmm_rank else in_channels
        self.affine = FullyConnectedLayer(w_dim, widths, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x, w, gain=1.0):
        x = style_modulate_linear(x, self.weight, self.affine(w))
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        return bias_act(x, self.bias.to(x.dtype), self.activation, self.act_gain * gain, clamp)


@persistent_class
class SynthesisOutputLayer(nn.Module):
    def __init__(self, in_channels, out_channels, w_dim, conv_clamp=None):
        super().__init__()
        self.conv_clamp = conv_clamp
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.weight_gain = 1 / np.sqrt(in_channels)

    def forward(self, x, w):
        x = style_modulate_linear(x, self.weight, self.affine(w) * self.weight_gain, demodulate=False)
        return bias_act(x, self.bias.to(x.dtype), clamp=self.conv_clamp)
