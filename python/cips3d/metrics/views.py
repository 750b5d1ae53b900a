"""Several views of the same heads, and what one of them looks like from the pose of another, by its depth.

A pixel of the target is taken to the point that its depth names, and the point into the source's picture, where colours
are read between pixels. A pixel counts as seen by the source if its point lies in the source's picture at the depth
that the source has there: not hidden, and no edge.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cips3d.data import to_float
from cips3d.data.heads import HeadPose, render_head, sample_parameters
from cips3d.render import Camera, camera_rays
from cips3d.training.trained import TrainedModel

# World units, a twentieth of the span that rays are sampled over: two depths that differ by less are one surface.
SAME_SURFACE = 0.012
# Population of the real heads that metrics measure themselves on; another one than any training set's by default.
HELD_OUT_SEED = 977
REAL_SUPERSAMPLE = 2


class Views(NamedTuple):
    """B heads, one pose each: images [B,3,S,S] in [-1,1], depth [B,1,S,S] along the rays (world units), camera."""

    images: Tensor
    depth: Tensor
    camera: Camera


def generated_views(model: TrainedModel, count: int, yaws: Tensor, seed: int = 0) -> list[Views]:
    """`count` new heads at each of the `yaws` (offsets from the mean pose, rad), one `Views` a yaw; on the CPU."""
    codes = model.codes(count, seed)
    result = []
    for yaw in yaws:
        camera = model.camera_at(yaw.expand(count))
        panels = model.views(*codes, camera, ("inr", "depth"))
        result.append(Views(panels["inr"], panels["depth"], camera))
    return result


def real_views(model: TrainedModel, count: int, yaws: Tensor, seed: int = HELD_OUT_SEED) -> list[Views]:
    """The same of `count` synthetic heads with their exact depth: what a perfect model of that data set gives.

    What the rays miss lies at the far end, as in `generated_views`.
    """
    people = [sample_parameters(seed, index) for index in range(count)]
    far, result = model.generator.config.far, []
    for yaw in yaws:
        camera = model.camera_at(yaw.expand(count))
        pitch, angle = camera.pitch_yaw[0].tolist()
        heads = [render_head(who, HeadPose(angle, pitch), model.resolution, REAL_SUPERSAMPLE) for who in people]
        depth = torch.stack([head.depth for head in heads])[:, None].clamp(max=far)
        result.append(Views(to_float(torch.stack([head.image for head in heads])), depth, camera))
    return result


def warp(source: Views, target: Views) -> tuple[Tensor, Tensor]:
    """The source's images as they look at the target's pixels [B,3,S,S], and which of these it sees [B,1,S,S]."""
    size = target.depth.shape[-1]
    rays = camera_rays(target.camera, size)
    points = rays.origins + rays.directions * target.depth.flatten(1)[..., None]
    pose = source.camera.cam2world
    offset = points - pose[:, None, :3, 3]
    local = offset @ pose[:, :3, :3]
    scale = -local[..., 2:] * math.tan(math.radians(source.camera.fov_deg) / 2)
    # Pixels lie on the edges of the field of view: align_corners. Rows go down, the camera's y up.
    grid = (local[..., :2] / scale * local.new_tensor([1.0, -1.0])).unflatten(1, (size, size))
    read = F.grid_sample(torch.cat([source.images, source.depth], 1), grid, padding_mode="border", align_corners=True)
    distance = offset.norm(dim=-1).unflatten(1, (size, size))[:, None]
    inside = (grid.abs().amax(-1) <= 1)[:, None]
    return read[:, :3], inside & ((read[:, 3:] - distance).abs() < SAME_SURFACE)


def mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean [B] of values [B,C,S,S] over the chosen pixels [B,1,S,S]; nan where none is."""
    return (values.mean(1, keepdim=True) * chosen).sum((1, 2, 3)) / chosen.sum((1, 2, 3))
