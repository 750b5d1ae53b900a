"""pi-GAN (arXiv 2012.00926, github.com/marcoamonteiro/pi-GAN): the FiLM-sine layer of its SIRENs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ._adapter import Adapter, guarded_forward, unlike
from ._covers import dense, one_dtype, unhooked
from ._layers import film
from .pigan_rendering import fancy_integration as fancy_integration
from .pigan_rendering import sample_from_3dgrid as sample_from_3dgrid
from .pigan_rendering import sample_pdf as sample_pdf


class FiLMLayer(nn.Module):
    """sin(freq * layer(x) + phase_shift), with pi-GAN's constructor, keys and forward."""

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.layer = nn.Linear(input_dim, hidden_dim)

    def forward(self, x: Tensor, freq: Tensor, phase_shift: Tensor) -> Tensor:
        """x [B,N,I], frequencies (15 * raw + 30 already) and phases (rad) [B,O] -> [B,N,O]."""
        return _film(self, x, freq, phase_shift)


def _film(module: Any, x: Tensor, freq: Tensor, phase_shift: Tensor) -> Tensor:
    return film(x, module.layer.weight, module.layer.bias, freq, phase_shift)


def _covers(module: Any, x: Any, freq: Any, phase_shift: Any) -> bool:
    if type(module.layer) is not nn.Linear:  # replaced since, as by a low-rank update
        return False
    weight = module.layer.weight
    return (
        dense(x, weight, freq, phase_shift)
        and x.dim() == 3
        and freq.shape == phase_shift.shape == (x.shape[0], weight.shape[0])
        and one_dtype(x, weight, freq, phase_shift)
        and unhooked(module.layer)
    )


def _misfit(module: Any) -> str:
    if reason := unlike(module, _film, "layer"):
        return reason
    return "" if type(module.layer) is nn.Linear else "its layer is no nn.Linear"


def _trial(shadow: Any) -> tuple[Any, ...]:
    outputs, inputs = shadow.layer.weight.shape
    return torch.randn(2, 3, inputs), 30 + torch.randn(2, outputs), torch.randn(2, outputs)


ADAPTERS = (Adapter("pi-GAN", ("FiLMLayer",), ("film_sine",), _misfit, guarded_forward(_covers, _film), _trial),)
