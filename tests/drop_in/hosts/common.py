"""What several public repositories share, written anew: equalised linear maps, activations, persistent classes."""

import copy
import functools
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

ACTIVATION_GAINS = {"linear": 1, "relu": np.sqrt(2), "lrelu": np.sqrt(2)}  # NumPy's numbers, as in the originals


def bias_act(x, bias, act="linear", gain=None, clamp=None):
    """The bias of axis 1, an activation, its gain, a limit."""
    x = x + bias.reshape(1, -1, *[1] * (x.dim() - 2))
    functions = {"linear": lambda t: t, "relu": torch.relu, "lrelu": lambda t: F.leaky_relu(t, 0.2)}
    x = functions[act](x) * (ACTIVATION_GAINS[act] if gain is None else gain)
    return x if clamp is None else x.clamp(-clamp, clamp)


class FullyConnectedLayer(nn.Module):
    def __init__(self, in_features, out_features, bias_init=0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.bias = nn.Parameter(torch.full([out_features], float(bias_init)))
        self.weight_gain = 1 / np.sqrt(in_features)

    def forward(self, x):
        return torch.addmm(self.bias[None].to(x.dtype), x, (self.weight * self.weight_gain).to(x.dtype).T)


class EqualLinear(nn.Module):
    def __init__(self, in_dim, out_dim, bias_init=0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_dim, in_dim))
        self.bias = nn.Parameter(torch.full([out_dim], float(bias_init)))
        self.scale, self.lr_mul = 1 / math.sqrt(in_dim), 1

    def forward(self, input):
        return F.linear(input, self.weight * self.scale, self.bias * self.lr_mul)


def modulated_conv2d(x, weight, styles, noise=None, demodulate=True, fused_modconv=True):
    """StyleGAN2-ADA's function for 1x1 kernels, both of its ways."""
    B, O, I = x.shape[0], *weight.shape[:2]
    w = weight[None] * styles.reshape(B, 1, I, 1, 1)
    d = (w.square().sum([2, 3, 4]) + 1e-8).rsqrt() if demodulate else None
    if fused_modconv:
        w = w if d is None else w * d.reshape(B, O, 1, 1, 1)
        y = F.conv2d(x.reshape(1, -1, *x.shape[2:]), w.reshape(-1, I, 1, 1).to(x.dtype), groups=B)
        y = y.reshape(B, O, *x.shape[2:])
    else:
        y = F.conv2d(x * styles.to(x.dtype).reshape(B, I, 1, 1), weight.to(x.dtype))
        y = y if d is None else y * d.to(y.dtype).reshape(B, O, 1, 1)
    return y if noise is None else y + noise.to(y.dtype)


def rebuild(cls_name, module_name, state):
    """What a persistent object's pickle calls; the originals carry their source here."""
    import importlib

    cls = getattr(importlib.import_module(module_name), cls_name)
    made = cls.__new__(cls)
    made.__setstate__(state)
    return made


def persistent_class(cls):
    """A class whose objects save how they are built again, in pickles and deep copies alike."""

    class Decorator(cls):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self._init_args, self._init_kwargs = copy.deepcopy(args), copy.deepcopy(kwargs)

        def __reduce__(self):
            fields = list(super().__reduce__())
            return rebuild, (cls.__name__, cls.__module__, fields[2])

    return functools.update_wrapper(Decorator, cls, updated=())
