"""Mirror symmetry: does a head turn, or does its picture flip where the yaw crosses the middle?

CIPS-3D's paper (section 3.3) names the failure: the picture at yaw t is the mirror image of that at -t, so that a
fringe changes sides when the head turns past the middle. For pairs of views T at t and S at -t of one head:

    turned     a = mean |T - warp(S)|       S as it looks from T's pose, by the depth of the views
    flipped    b = mean |T - mirror(S)|     S as a mirror image
    score      sum max(0, a - b) / sum c    c = mean |T - mean T|, the contrast of T

each mean over the pixels that are in both views, the sums over heads, yaws and both directions of a pair. A consistent
head is explained by turning and adds nothing, or, if it is wholly symmetric, what reading between pixels loses (0.04
on a ball at 32 pixels); a head that flips adds the difference between its halves. A generator may paint its picture on
a wall, whose depth is none of a head: so turning counts with the rendered depth or with that of a ball, whichever
explains the pair better.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cips3d.metrics.views import Views, generated_views, mean_over, warp
from cips3d.render import Camera, camera_rays
from cips3d.training.trained import TrainedModel

SPREADS = (0.5, 1.0)  # the pairs' yaws, in standard deviations of the training poses
BALL_RADIUS = 0.06  # world units, about a head's
LEAST_SEEN = 0.05  # share of the pixels that a depth must bring into both views to explain a pair


@dataclass(frozen=True)
class MirrorSymmetry:
    """score: 0 for heads that turn, above it the more the pictures flip (see the module).

    turned and flipped are a and b over c; flips is the share of pairs that the mirror image explains better.
    """

    score: float
    turned: float
    flipped: float
    flips: float
    heads: int


def measure_mirror_symmetry(model: TrainedModel, count: int = 64, seed: int = 0) -> MirrorSymmetry:
    """The score of `count` new heads at +-`SPREADS` standard deviations of yaw from the mean pose."""
    yaws = torch.tensor(SPREADS) * model.camera.yaw_std
    left, right = (generated_views(model, count, sign * yaws, seed) for sign in (-1, 1))
    return mirror_symmetry(left, right)


def mirror_symmetry(left: list[Views], right: list[Views]) -> MirrorSymmetry:
    """The score of the same heads seen from poses `left` and, in the same order, their mirror images `right`."""
    pairs = [pair for a, b in zip(left, right, strict=True) for pair in ((a, b), (b, a))]
    turned, flipped, contrast = torch.cat([_explain(source, target) for source, target in pairs], 1)
    excess, total = (turned - flipped).clamp(min=0), contrast.sum()
    return MirrorSymmetry(
        score=(excess.sum() / total).item(),
        turned=(turned.sum() / total).item(),
        flipped=(flipped.sum() / total).item(),
        flips=(excess > 0).float().mean().item(),
        heads=len(left[0].images),
    )


def _explain(source: Views, target: Views) -> Tensor:
    """a, b and c of each head [3,B], by the depth that leaves least of a - b."""
    ball = [view._replace(depth=_ball_depth(view.camera, view.depth)) for view in (source, target)]
    rendered, round_head = _errors(source, target), _errors(*ball)
    # A depth that brings nothing into view (nan) explains nothing; a ball always brings its front.
    better = rendered[0] - rendered[1] <= round_head[0] - round_head[1]
    return torch.where(better, rendered, round_head)


def _errors(source: Views, target: Views) -> Tensor:
    warped, seen = warp(source, target)
    middle = (target.images * seen).sum((2, 3), keepdim=True) / seen.sum((2, 3), keepdim=True)
    explanations = (warped, source.images.flip(-1), middle)
    errors = torch.stack([mean_over((target.images - other).abs(), seen) for other in explanations])
    return torch.where(seen.float().mean((1, 2, 3)) >= LEAST_SEEN, errors, torch.nan)


def _ball_depth(camera: Camera, like: Tensor) -> Tensor:
    """Depth [B,1,S,S] of a ball around the origin; a ray that misses it ends where it is nearest to the origin."""
    rays = camera_rays(camera, like.shape[-1])
    towards = -(rays.origins * rays.directions).sum(-1)
    inside = towards.square() - rays.origins.square().sum(-1) + BALL_RADIUS**2
    return (towards - inside.clamp(min=0).sqrt()).unflatten(-1, like.shape[-2:])[:, None]
