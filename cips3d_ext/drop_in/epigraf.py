"""EpiGRAF (arXiv 2206.10535, github.com/universome/epigraf): the modulated layers of its INR, on [B,I,N]."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ._adapter import Adapter, guarded_forward, unlike
from ._covers import autocast_dtype, dense, enough_channels, plain
from ._layers import EqualLinear, modfc_channels_first
from .epigraf_rendering import fancy_integration as fancy_integration
from .epigraf_rendering import tri_plane_renderer as tri_plane_renderer
from .pigan_rendering import sample_pdf as sample_pdf
from .stylegan import ACTIVATIONS, activation_misfit, require_linear, synthesis_options


class SynthesisLayer(nn.Module):
    """A modulated, demodulated layer with activation, with EpiGRAF's constructor, keys and forward.

    cfg: the host's; its factorised modulation, cfg.fmm.enabled, is no modulation by a vector and must be off.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        activation: str = "lrelu",
        conv_clamp: float | None = None,
        cfg: Any = None,
    ) -> None:
        super().__init__()
        fmm = getattr(getattr(cfg, "fmm", None), "enabled", False)
        require_linear("SynthesisLayer", activation, fmm=(bool(fmm), False))
        self.activation, self.act_gain, self.conv_clamp = activation, ACTIVATIONS[activation], conv_clamp
        self.affine = EqualLinear(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, w: Tensor, gain: float = 1.0) -> Tensor:
        """x [B,I,N], codes w [B,w_dim] -> [B,O,N]."""
        return _synthesis(self, x, w, gain)


class SynthesisOutputLayer(nn.Module):
    """clamp(x (weight * affine(w) / sqrt(I))^T + bias), with EpiGRAF's constructor, keys and forward."""

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, conv_clamp: float | None = None) -> None:
        super().__init__()
        self.conv_clamp, self.weight_gain = conv_clamp, in_channels**-0.5
        self.affine = EqualLinear(w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x [B,I,N], codes w [B,w_dim] -> [B,O,N]."""
        return _output(self, x, w)


def _synthesis(module: Any, x: Tensor, w: Tensor, gain: float = 1.0) -> Tensor:
    options = synthesis_options(module, gain)
    return modfc_channels_first(x, module.weight, module.affine(w), module.bias, **options)


def _output(module: Any, x: Tensor, w: Tensor) -> Tensor:
    styles = module.affine(w) * module.weight_gain
    options = {"demodulate": False, "clamp": module.conv_clamp}
    return modfc_channels_first(x, module.weight, styles, module.bias, **options)


def _covers_synthesis(module: Any, x: Any, w: Any, gain: float = 1.0) -> bool:
    return plain(gain) and _covers_output(module, x, w)


def _covers_output(module: Any, x: Any, w: Any) -> bool:
    return (
        dense(x, w, module.weight)
        and autocast_dtype(x) is None  # in which its demodulation stays in float32
        and x.dim() == 3
        and w.dim() == 2
        and x.shape[0] == w.shape[0]
        and x.shape[1] == module.weight.shape[1]
        and enough_channels(x, module.weight.shape[0])
    )


def _synthesis_misfit(module: Any) -> str:
    names = ("affine", "weight", "bias", "cfg", "activation", "act_gain", "conv_clamp")
    if reason := unlike(module, _synthesis, *names) or _matrix_misfit(module):
        return reason
    if reason := activation_misfit(module.activation, module.act_gain):
        return reason
    if module.affine.weight.shape[0] != module.weight.shape[1]:
        return "its modulation is a matrix for each sample (fmm), not a vector"
    return ""


def _output_misfit(module: Any) -> str:
    names = ("affine", "weight", "bias", "weight_gain", "conv_clamp")
    return unlike(module, _output, *names) or _matrix_misfit(module)


def _matrix_misfit(module: Any) -> str:
    return "" if module.weight.dim() == 2 else "its weight is no matrix [O,I]"


def _trial(shadow: Any) -> tuple[Any, ...]:
    return torch.randn(2, shadow.weight.shape[1], 3), torch.randn(2, shadow.affine.weight.shape[1])


ADAPTERS = (
    Adapter(
        "EpiGRAF", ("SynthesisLayer",), ("modfc",), _synthesis_misfit,
        guarded_forward(_covers_synthesis, _synthesis), _trial,
    ),
    Adapter(
        "EpiGRAF", ("SynthesisOutputLayer",), ("modfc",), _output_misfit,
        guarded_forward(_covers_output, _output), _trial,
    ),
)  # fmt: skip
