"""EpiGRAF (arXiv 2206.10535, github.com/universome/epigraf): the modulated layers of its INR, on [B,I,N]."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._adapter import Adapter, guarded_forward, unlike
from ._covers import autocast_dtype, dense, worthwhile
from ._layers import modfc_channels_first
from .epigraf_rendering import fancy_integration as fancy_integration
from .epigraf_rendering import tri_plane_renderer as tri_plane_renderer
from .pigan_rendering import sample_pdf as sample_pdf
from .stylegan import activation_misfit, synthesis_options


def _synthesis(module: Any, x: Tensor, w: Tensor, gain: float = 1.0) -> Tensor:
    options = synthesis_options(module, gain)
    return modfc_channels_first(x, module.weight, module.affine(w), module.bias, **options)


def _output(module: Any, x: Tensor, w: Tensor) -> Tensor:
    styles = module.affine(w) * module.weight_gain
    options = {"demodulate": False, "clamp": module.conv_clamp}
    return modfc_channels_first(x, module.weight, styles, module.bias, **options)


def _covers_synthesis(module: Any, x: Any, w: Any, gain: float = 1.0) -> bool:
    return _covers_output(module, x, w)


def _covers_output(module: Any, x: Any, w: Any) -> bool:
    return (
        dense(x, w, module.weight)
        and autocast_dtype(x) is None  # in which its demodulation stays in float32
        and x.dim() == 3
        and w.dim() == 2
        and x.shape[0] == w.shape[0]
        and x.shape[1] == module.weight.shape[1]
        and worthwhile(x, module.weight.shape[0])
    )


def _synthesis_misfit(module: Any) -> str:
    names = ("affine", "weight", "bias", "cfg", "activation", "act_gain", "conv_clamp")
    if reason := unlike(module, _synthesis, *names) or _matrix_misfit(module) or activation_misfit(module):
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
