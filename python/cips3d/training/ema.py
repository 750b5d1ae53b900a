"""Exponential moving average of a network's weights: the copy that is sampled from and evaluated."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


class Ema(Generic[Module]):
    """Keeps `module`, a copy of `source` that follows it: m <- decay * m + (1 - decay) * source, every state entry.

    Up to `start` updates the copy equals the source, so that the random initial weights never enter the average. (The
    public code keeps the initial weights until then and averages them in.)
    """

    def __init__(self, source: Module, decay: float, start: int) -> None:
        self.module = copy.deepcopy(source).eval().requires_grad_(False)
        self.decay, self.start = decay, start

    @torch.no_grad()
    def update(self, source: Module, step: int) -> None:
        """Follow `source` after its update number `step` (counted from 1)."""
        decay = self.decay if step > self.start else 0.0
        ours = self.module.state_dict()
        for name, value in source.state_dict().items():
            if ours[name].is_floating_point() and decay > 0.0:
                ours[name].lerp_(value, 1.0 - decay)
            else:
                ours[name].copy_(value)
