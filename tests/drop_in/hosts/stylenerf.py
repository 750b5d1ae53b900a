"""StyleNeRF's modulated layers: samples of rays are rows of the batch, persistent classes."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tests.drop_in.hosts.common import (
    ACTIVATION_GAINS,
    FullyConnectedLayer,
    bias_act,
    modulated_conv2d,
    persistent_class,
)


def for_rows(styles, x):
    return styles.repeat_interleave(x.shape[0] // styles.shape[0], 0)


class Magnitude(nn.Module):
    def normalised(self, x):
        if self.magnitude_ema_beta <= 0:
            return x
        if self.training:
            self.w_avg.copy_(x.detach().to(torch.float32).square().mean().lerp(self.w_avg, self.magnitude_ema_beta))
        return x * self.w_avg.rsqrt()


@persistent_class
class Style2Layer(Magnitude):
    def __init__(self, in_channels, out_channels, w_dim, activation="lrelu", magnitude_ema_beta=-1):
        super().__init__()
        self.activation, self.conv_clamp, self.act_gain, self.w_dim = (
            activation,
            None,
            ACTIVATION_GAINS[activation],
            w_dim,
        )
        self.register_buffer("resample_filter", torch.ones(4, 4))
        if w_dim > 0:
            self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn([out_channels, in_channels] + [1, 1] * (w_dim > 0)))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.magnitude_ema_beta = magnitude_ema_beta
        if magnitude_ema_beta > 0:
            self.register_buffer("w_avg", torch.ones([]))

    def forward(self, x, w=None, fused_modconv=None, gain=1, up=1, **unused_kwargs):
        assert up == 1
        x = self.normalised(x)
        fused_modconv = not self.training if fused_modconv is None else fused_modconv
        if self.w_dim == 0:
            return F.relu(F.conv2d(x, self.weight[:, :, None, None], self.bias))
        x = modulated_conv2d(x, self.weight, for_rows(self.affine(w), x), fused_modconv=fused_modconv)
        return bias_act(x, self.bias.to(x.dtype), self.activation, self.act_gain * gain)


@persistent_class
class ToRGBLayer(nn.Module):
    def __init__(self, in_channels, out_channels, w_dim=0, conv_clamp=None):
        super().__init__()
        self.conv_clamp, self.mode = conv_clamp, "2d"
        if w_dim > 0:
            self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn([out_channels, in_channels] + [1, 1] * (w_dim > 0)))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.weight_gain = 1 / np.sqrt(in_channels)

    def forward(self, x, w=None, fused_modconv=True):
        if w is None:
            return F.conv2d(x, self.weight.flatten(1)[:, :, None, None], self.bias)
        styles = for_rows(self.affine(w) * self.weight_gain, x)
        x = modulated_conv2d(x, self.weight, styles, demodulate=False, fused_modconv=fused_modconv)
        return bias_act(x, self.bias.to(x.dtype), clamp=self.conv_clamp)


@persistent_class
class SynthesisLayer(Magnitude):
    def __init__(self, in_channels, out_channels, w_dim, resolution, kernel_size=1, up=1, magnitude_ema_beta=-1):
        super().__init__()
        self.resolution, self.up, self.use_noise, self.activation = resolution, up, True, "lrelu"
        self.conv_clamp, self.act_gain, self.groups, self.mode = None, ACTIVATION_GAINS["lrelu"], 1, "2d"
        self.upsample_mode, self.magnitude_ema_beta = "nn_cat", magnitude_ema_beta
        self.register_buffer("resample_filter", torch.ones(4, 4))
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        if magnitude_ema_beta > 0:
            self.register_buffer("w_avg", torch.ones([]))

    def forward(self, x, w, noise_mode="random", fused_modconv=True, gain=1, skip_up=False, input_noise=None, **kwargs):
        x, noise = self.normalised(x), None
        if input_noise is not None:
            noise = input_noise * self.noise_strength
        elif noise_mode == "random":
            noise = torch.randn([x.shape[0], 1, *x.shape[2:]], device=x.device) * self.noise_strength
        elif noise_mode == "const":
            noise = self.noise_const * self.noise_strength
        noise = None if skip_up else noise
        x = modulated_conv2d(x, self.weight, for_rows(self.affine(w), x), noise, fused_modconv=fused_modconv)
        return bias_act(x, self.bias.to(x.dtype), self.activation, self.act_gain * gain)
