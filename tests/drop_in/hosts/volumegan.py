"""VolumeGAN's modulated convolution, of 1x1 kernels without upsampling."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tests.drop_in.hosts.common import ACTIVATION_GAINS, EqualLinear, bias_act


class DenseLayer(EqualLinear):
    def forward(self, x, impl="cuda"):
        return super().forward(x)


class ModulateConvLayer(nn.Module):
    def __init__(self, in_channels, out_channels, resolution, w_dim, demodulate=True, lr_mul=1.0, noise_type="none",
                 activation_type="lrelu", conv_clamp=None, scale_factor=1, eps=1e-8):  # fmt: skip
        super().__init__()
        self.w_dim, self.demodulate, self.noise_type, self.eps = w_dim, demodulate, noise_type, eps
        self.activation_type, self.conv_clamp, self.scale_factor = activation_type, conv_clamp, scale_factor
        self.space_of_latent = "W"
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1) / lr_mul)
        self.wscale, self.bscale, self.act_gain = (
            lr_mul / np.sqrt(in_channels),
            lr_mul,
            ACTIVATION_GAINS[activation_type],
        )
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.style = DenseLayer(w_dim, in_channels, bias_init=1)
        if noise_type != "none":
            self.noise_strength = nn.Parameter(torch.zeros(()))
            self.register_buffer("noise", torch.randn(1, 1, resolution, resolution))

    def forward_style(self, w, impl="cuda"):
        return self.style(w, impl=impl) if self.space_of_latent == "W" else w[:, : self.weight.shape[1]]

    def forward(self, x, w, runtime_gain=1.0, noise_mode="const", fused_modulate=False, impl="cuda"):
        N, C, H, W = x.shape
        style = self.forward_style(w, impl=impl)
        modulation = style if self.demodulate else style * self.wscale
        noise = None
        if self.noise_type != "none" and noise_mode != "none":
            noise = torch.randn((N, 1, H, W), device=x.device) if noise_mode == "random" else self.noise
            noise = noise * self.noise_strength
        y = F.conv2d(x * modulation.reshape(N, C, 1, 1), self.weight)
        if self.demodulate:
            squares = (self.weight[None] * modulation.reshape(N, 1, C, 1, 1)).square().sum((2, 3, 4))
            y = y * (squares + self.eps).rsqrt()[:, :, None, None]
        y = y if noise is None else y + noise
        act = self.activation_type
        gain, clamp = (1.0, self.conv_clamp) if act == "linear" else (self.act_gain * runtime_gain, self.conv_clamp)
        if act != "linear" and clamp is not None:
            clamp = clamp * runtime_gain
        y = bias_act(y, self.bias * self.bscale, act, gain, clamp)
        assert style.dtype == torch.float32
        return y, style
