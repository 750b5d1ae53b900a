"""StyleSDF (arXiv 2112.11427, github.com/royorel/StyleSDF) and CIPS-3D++: the FiLM-SIREN layer of their renderers.

Their decoders are those of `cips` with 1x1 or, in StyleSDF, 3x3 kernels.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ._adapter import Adapter, guarded_forward, unlike
from ._covers import dense, one_dtype
from ._layers import film
from .stylesdf_rendering import volume_integration as volume_integration
from .stylesdf_rendering import volume_integration_cips3dpp as volume_integration_cips3dpp

_STYLE_INIT_SCALE = 0.25
_INIT_SLOPE = 0.2
_SINE_INIT_DIVISOR = 25.0


class LinearLayer(nn.Module):
    """std_init * (x weight^T + bias) + bias_init."""

    def __init__(self, in_dim: int, out_dim: int, bias_init: float = 0, std_init: float = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_dim, in_dim))
        self.bias = nn.Parameter(torch.empty(out_dim))
        self.bias_init, self.std_init = bias_init, std_init
        nn.init.kaiming_normal_(self.weight, a=_INIT_SLOPE)
        with torch.no_grad():
            self.weight.mul_(_STYLE_INIT_SCALE)
        nn.init.uniform_(self.bias, -1 / math.sqrt(in_dim), 1 / math.sqrt(in_dim))

    def forward(self, input: Tensor) -> Tensor:
        """input [*,I] -> [*,O]."""
        return self.std_init * nn.functional.linear(input, self.weight, self.bias) + self.bias_init


class FiLMSiren(nn.Module):
    """sin(gamma(style) * (x weight^T + bias) + beta(style)), with StyleSDF's constructor, keys and forward."""

    def __init__(self, in_channel: int, out_channel: int, style_dim: int, is_first: bool = False) -> None:
        super().__init__()
        self.in_channel, self.out_channel = in_channel, out_channel
        self.weight = nn.Parameter(torch.empty(out_channel, in_channel))
        self.bias = nn.Parameter(torch.empty(out_channel))
        bound = 1 / 3 if is_first else math.sqrt(6 / in_channel) / _SINE_INIT_DIVISOR
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -1 / math.sqrt(in_channel), 1 / math.sqrt(in_channel))
        self.gamma = LinearLayer(style_dim, out_channel, bias_init=30, std_init=15)
        self.beta = LinearLayer(style_dim, out_channel, bias_init=0, std_init=0.25)

    def forward(self, input: Tensor, style: Tensor) -> Tensor:
        """input [B,*,I], style [B,style_dim] -> [B,*,O]."""
        return _film(self, input, style)


def _film(module: Any, input: Tensor, style: Tensor) -> Tensor:
    return film(input, module.weight, module.bias, module.gamma(style), module.beta(style))


def _covers_axes(*axes: int) -> Any:
    def covers(module: Any, input: Any, style: Any) -> bool:
        return (
            dense(input, style, module.weight)
            and input.dim() in axes
            and style.dim() == 2
            and style.shape[0] == input.shape[0]
            and one_dtype(input, style, module.weight)
        )

    return covers


def _misfit(module: Any) -> str:
    return unlike(module, _film, "weight", "bias", "gamma", "beta", "activation")


def _trial(*shape: int) -> Any:
    def arguments(shadow: Any) -> tuple[Any, ...]:
        return torch.randn(*shape, shadow.weight.shape[1]), torch.randn(shape[0], shadow.gamma.weight.shape[1])

    return arguments


def _adapter(host: str, covers: Any, trial: Any) -> Adapter:
    return Adapter(host, ("FiLMSiren",), ("film_sine",), _misfit, guarded_forward(covers, _film), trial)


ADAPTERS = (
    # CIPS-3D++ takes points of rays in a row as well, [B,R,S,3]; StyleSDF those of an image alone, [B,H,W,S,3].
    _adapter("CIPS-3D++", _covers_axes(4, 5), _trial(2, 3, 4)),
    _adapter("StyleSDF", _covers_axes(5), _trial(2, 1, 3, 4)),
)
