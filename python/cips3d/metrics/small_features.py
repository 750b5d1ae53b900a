"""A small feature extractor that needs no weights from elsewhere, for machines without them and for tests.

Random convolutions tell distributions of pictures apart well enough to order the models of one study: they see colour,
layout and sharpness, not meaning. Numbers made with it are comparable with one another alone, and never called FID.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

NAME = "cips3d-small"
VERSION = 1  # raise it when the features change
SEED = 2110_09788
SIDE = 32  # pictures are averaged down to it, or enlarged
WIDTHS = (32, 64, 96)  # channels, each followed by a halving of the side
FEATURES = 128
LAYER = str(FEATURES)  # what torch-fidelity calls them
BATCH = 256


class SmallFeatures(nn.Module):
    """Features [B,128] float32 of uint8 images [B,3,S,S]; fixed random weights, the same on every machine."""

    def __init__(self) -> None:
        super().__init__()
        # numpy's generator: its streams are the same on all platforms.
        source = np.random.default_rng(SEED)
        self.kernels = nn.ParameterList()
        for before, after in zip((3, *WIDTHS), WIDTHS, strict=False):
            self.kernels.append(_weights(source, (after, before, 3, 3)))
        layout = WIDTHS[-1] * (SIDE >> len(WIDTHS)) ** 2
        self.last = _weights(source, (FEATURES, layout))

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([self._features(part) for part in images.split(BATCH)])

    def _features(self, images: Tensor) -> Tensor:
        x = images.float() / 127.5 - 1
        if images.shape[-1] > SIDE:
            x = F.adaptive_avg_pool2d(x, SIDE)
        elif images.shape[-1] < SIDE:
            x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False)
        for kernel in self.kernels:
            x = F.avg_pool2d(F.relu(F.conv2d(x, kernel, padding=1)), 2)
        return F.linear(x.flatten(1), self.last)


def _weights(source: np.random.Generator, shape: tuple[int, ...]) -> nn.Parameter:
    """Normal weights that keep the size of what passes through a ReLU (He)."""
    scale = (2 / np.prod(shape[1:])) ** 0.5
    drawn = source.standard_normal(shape) * scale
    return nn.Parameter(torch.from_numpy(drawn.astype(np.float32)), requires_grad=False)
