"""Identity over yaw: is it the same head, seen from the other side?

Features of each head at several yaws, centred over the heads of a yaw, so that what all heads share in a pose says
nothing. The cosine between views of one head should be high, and near 0 between different heads. Face networks, which
the field takes, are not at hand: here the features are attributes of a head that a regressor has learnt from synthetic
heads, whose parameters are known, or for other data those of the small random network. The result says which.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from cips3d.data import SyntheticHeads, to_uint8
from cips3d.data.heads import HeadParameters, sample_parameters
from cips3d.metrics.regressor import correlations, fit_regressor, held_out
from cips3d.metrics.small_features import NAME, SmallFeatures
from cips3d.training.trained import TrainedModel

VIEWS = 3
YAW_SPREADS = 1.0  # the views lie within so many standard deviations of the training poses' yaw
ATTRIBUTES: Mapping[str, Callable[[HeadParameters], float]] = {
    "hair side": lambda p: p.hair_side,
    "hair red": lambda p: p.hair[0],
    "hair blue": lambda p: p.hair[2],
    "skin red": lambda p: p.skin[0],
    "skin blue": lambda p: p.skin[2],
    "clothes red": lambda p: p.clothes[0],
    "clothes green": lambda p: p.clothes[1],
    "clothes blue": lambda p: p.clothes[2],
    "beard": lambda p: p.beard,
    "head width": lambda p: p.head_width,
}


@dataclass(frozen=True)
class Identity:
    """same, different: mean cosines between views of one head and of two; extractor: what the features are.

    kept: of each attribute the correlation over heads between the leftmost and the rightmost view (1 kept, -1 turned
    into its opposite); learnt: its correlation with the truth on real heads that the regressor has not seen. Both are
    empty for the small network.
    """

    same: float
    different: float
    extractor: str
    heads: int
    kept: Mapping[str, float] = field(default_factory=dict)
    learnt: Mapping[str, float] = field(default_factory=dict)


def measure_identity(model: TrainedModel, count: int = 64, seed: int = 0) -> Identity:
    """Identity of `count` new heads by the small random network."""
    network = SmallFeatures()
    features = [network(to_uint8(images)) for images in _views(model, count, seed)]
    return Identity(*identity_cosines(features), NAME, count)


def measure_head_identity(
    model: TrainedModel, images: Tensor, heads: SyntheticHeads, count: int = 64, epochs: int = 6, seed: int = 0
) -> Identity:
    """Identity of `count` new heads by attributes learnt from `images` [N,3,S,S] in [-1,1], the first of `heads`."""
    truth = true_attributes(heads, len(images))
    held = held_out(len(images))
    regressor = fit_regressor(images[held:], truth[held:], epochs, seed)
    learnt = correlations(regressor.predict(images[:held]), truth[:held])
    features = [regressor.predict(view) for view in _views(model, count, seed)]
    standardised = [(feature - regressor.mean) / regressor.std for feature in features]
    kept = correlations(features[0], features[-1])
    return Identity(
        *identity_cosines(standardised),
        f"attributes of {heads.name}",
        count,
        dict(zip(ATTRIBUTES, kept, strict=True)),
        dict(zip(ATTRIBUTES, learnt, strict=True)),
    )


def true_attributes(heads: SyntheticHeads, count: int) -> Tensor:
    """`ATTRIBUTES` [count,K] of the first items."""
    people = [sample_parameters(heads.seed, index) for index in range(count)]
    return torch.tensor([[read(person) for read in ATTRIBUTES.values()] for person in people])


def identity_cosines(features: list[Tensor]) -> tuple[float, float]:
    """Mean cosines between views of one head and between views of two; features [B,D], a tensor for each view."""
    centred = [F.normalize(view - view.mean(0), dim=1) for view in features]
    same, different = [], []
    for one, other in combinations(centred, 2):
        cosines = one @ other.T
        count = len(cosines)
        same.append(cosines.diagonal().mean())
        different.append((cosines.sum() - cosines.trace()) / (count * (count - 1)))
    return torch.stack(same).mean().item(), torch.stack(different).mean().item()


def _views(model: TrainedModel, count: int, seed: int) -> list[Tensor]:
    codes = model.codes(count, seed)
    return [model.images(*codes, model.camera_at(yaw.expand(count))) for yaw in model.yaws(VIEWS, YAW_SPREADS)]
