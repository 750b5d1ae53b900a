"""The FiLM-SIREN layers of StyleSDF and CIPS-3D++."""

import torch
from torch import nn
from torch.nn import functional as F


class LinearLayer(nn.Module):
    def __init__(self, in_dim, out_dim, bias_init=0, std_init=1):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(out_dim, in_dim) / 4), nn.Parameter(torch.randn(out_dim))
        self.bias_init, self.std_init = bias_init, std_init

    def forward(self, input):
        return self.std_init * F.linear(input, self.weight, self.bias) + self.bias_init


class FiLMSiren(nn.Module):
    def __init__(self, in_channel, out_channel, style_dim, is_first=False):
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter(torch.randn(out_channel, in_channel) / 9),
            nn.Parameter(torch.randn(out_channel)),
        )
        self.activation = torch.sin
        self.gamma = LinearLayer(style_dim, out_channel, bias_init=30, std_init=15)
        self.beta = LinearLayer(style_dim, out_channel, bias_init=0, std_init=0.25)

    def forward(self, input, style):
        batch, features = style.shape
        gamma = self.gamma(style).view(batch, 1, 1, 1, features)
        beta = self.beta(style).view(batch, 1, 1, 1, features)
        return self.activation(gamma * F.linear(input, self.weight, self.bias) + beta)


class PlusPlus:
    """CIPS-3D++ takes rays in a row as well, and styles of another width."""

    class FiLMSiren(FiLMSiren):
        def forward(self, input, style):
            shape = (style.shape[0], *[1] * (input.dim() - 2), -1)
            gamma, beta = self.gamma(style).view(shape), self.beta(style).view(shape)
            return self.activation(gamma * F.linear(input, self.weight, self.bias) + beta)


PlusPlus.FiLMSiren.__qualname__ = "PlusPlus.FiLMSiren"
