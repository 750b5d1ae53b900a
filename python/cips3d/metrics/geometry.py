"""Geometry: is the surface that a generator renders the one that its picture shows?

As EG3D's depth metric (arXiv 2112.07945) compares the rendered depth with what a network reads from the picture; here
that network has learnt from synthetic heads with their exact depth, and its own error on unseen ones is stated. Depths
are those of the same GRID x GRID rays, lengths world units (a head is about 0.16 wide and deep).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from cips3d.data import SyntheticHeads
from cips3d.metrics.regressor import fit_regressor, held_out
from cips3d.training.trained import TrainedModel

GRID = 16  # rays along a side: what so small a network can read
BACKGROUND = 0.02  # world units before the far end: what lies behind is no head


@dataclass(frozen=True)
class Geometry:
    """error: mean |rendered - read depth| over the rays that show a head; real_error: the same of true depth, which is
    the network's own; relief, real_relief: mean standard deviation of a head's depths (near 0: a flat picture).
    """

    error: float
    real_error: float
    relief: float
    real_relief: float
    heads: int


def measure_geometry(
    model: TrainedModel,
    images: Tensor,
    heads: SyntheticHeads,
    count: int = 128,
    epochs: int = 6,
    seed: int = 0,
    progress: bool = False,
) -> Geometry:
    """Learn depth from `images` [N,3,S,S] in [-1,1], the first items of `heads`, then look at `count` new heads.

    The heads' poses are drawn from the training distribution.
    """
    far = model.generator.config.far
    truth = true_depth(heads, len(images), far, progress)
    held = held_out(len(images))
    regressor = fit_regressor(images[held:], truth[held:].flatten(1), epochs, seed)

    def read(pictures: Tensor) -> Tensor:
        return regressor.predict(pictures).unflatten(1, (GRID, GRID))

    codes, camera = model.codes(count, seed), model.poses(count, seed)
    rendered = model.views(*codes, camera, ("depth",), GRID)["depth"][:, 0]
    return Geometry(
        error=depth_error(rendered, read(model.images(*codes, camera)), far),
        real_error=depth_error(truth[:held], read(images[:held]), far),
        relief=depth_relief(rendered, far),
        real_relief=depth_relief(truth, far),
        heads=count,
    )


def true_depth(heads: SyntheticHeads, count: int, far: float, progress: bool = False) -> Tensor:
    """Depth [count,GRID,GRID] of the first items, along the rays of a picture of that side; `far` where none is hit."""
    items = tqdm(range(count), desc="true depth", unit="head", disable=not progress)
    return torch.stack([heads.render(index, GRID).depth.clamp(max=far) for index in items])


def depth_error(depth: Tensor, wanted: Tensor, far: float) -> float:
    """Mean |depth - wanted| of [B,H,W] over the rays that by `wanted` hit something before `far`; nan without such."""
    head = wanted < far - BACKGROUND
    return (depth - wanted).abs()[head].mean().item()


def depth_relief(depth: Tensor, far: float) -> float:
    """Mean over images [B,H,W] of the standard deviation of the depths before `far`; 0 where all is background."""
    spreads = [picture[picture < far - BACKGROUND] for picture in depth]
    return torch.stack([seen.std() if len(seen) > 1 else depth.new_zeros(()) for seen in spreads]).mean().item()
