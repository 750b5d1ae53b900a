"""Reprojection error: is what one view shows where its depth says the next one should show it?

After VolumeGAN's Rep-Er (arXiv 2112.10759): views of one head at evenly spaced yaws, each warped to its neighbours'
poses through the rendered depth. Here: error = mean |T - warp(S)|, over all heads, neighbouring views S and T in both
directions, colours in [-1,1] and the pixels of T that S sees (`cips3d.metrics.views.warp`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cips3d.metrics.views import Views, generated_views, warp
from cips3d.training.trained import TrainedModel

VIEWS = 5
YAW_SPREADS = 1.0  # the views lie within so many standard deviations of the training poses' yaw


@dataclass(frozen=True)
class Reprojection:
    """error: mean absolute difference of colours in [-1,1]; seen: share of the pixels that it is a mean over.

    Depth that names no common points sees little: read the error together with the share.
    """

    error: float
    seen: float
    heads: int


def measure_reprojection(model: TrainedModel, count: int = 64, seed: int = 0) -> Reprojection:
    """The error of `count` new heads at `VIEWS` yaws within +-`YAW_SPREADS` standard deviations."""
    return reprojection(generated_views(model, count, model.yaws(VIEWS, YAW_SPREADS), seed))


def reprojection(views: list[Views]) -> Reprojection:
    """The error of the same heads in views that lie beside one another; nan where no view sees a pixel of the next."""
    total = seen_pixels = pixels = 0.0
    for one, other in zip(views, views[1:], strict=False):
        for source, target in ((one, other), (other, one)):
            warped, seen = warp(source, target)
            total += ((target.images - warped).abs().mean(1, keepdim=True) * seen).sum().item()
            seen_pixels += seen.sum().item()
            pixels += seen.numel()
    error = total / seen_pixels if seen_pixels else torch.nan
    return Reprojection(error, seen_pixels / pixels, len(views[0].images))
