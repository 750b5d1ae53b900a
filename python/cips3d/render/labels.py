"""Camera labels of EG3D (arXiv 2112.07945), 25 numbers: cam2world [4,4] in OpenCV's axes, then intrinsics [3,3].

OpenCV's camera looks along its +z with y down, this package's along its -z with y up. Intrinsics are in units of the
picture's sides, with pixels sampled at their centres; this package's fov_deg lies between the centres of the outermost
pixels (`cips3d.render.rays`), so it depends on the picture's side S.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cips3d.render.rays import Camera

LABEL = 25
POSE = 16  # of these belong to cam2world
AXES = (1.0, -1.0, -1.0, 1.0)  # of a camera, from one convention to the other
SAME = 1e-4  # relative difference up to which focal lengths are one


def camera_labels(camera: Camera, side: int, radius: float = 1.0) -> Tensor:
    """Labels [B,25] of the cameras of pictures of `side` pixels; `radius`: length of this package's unit over there."""
    pose = camera.cam2world
    flipped = pose * pose.new_tensor(AXES)
    flipped = torch.cat([flipped[..., :3], _scaled(flipped[..., 3:], radius)], -1)
    focal = 0.5 / tangent(camera.fov_deg, side)
    intrinsics = pose.new_tensor([focal, 0.0, 0.5, 0.0, focal, 0.5, 0.0, 0.0, 1.0])
    return torch.cat([flipped.flatten(1), intrinsics.expand(len(pose), -1)], 1)


def label_camera(labels: Tensor, side: int, radius: float = 1.0) -> Camera:
    """The cameras of labels [B,25], the inverse of `camera_labels`; pitch_yaw is where they stand around the origin.

    Raises ValueError where a label is none, or its camera is not one of one focal length for all with its axis through
    the picture's middle.
    """
    if labels.ndim != 2 or labels.shape[1] != LABEL or not len(labels):
        raise ValueError(
            f"camera labels must be [B,{LABEL}], cam2world [4,4] and intrinsics [3,3], got {list(labels.shape)}"
        )
    focal = labels[0, POSE].item()
    wanted = labels.new_tensor([focal, 0.0, 0.5, 0.0, focal, 0.5, 0.0, 0.0, 1.0])
    if not focal > 0 or not torch.allclose(labels[:, POSE:], wanted.expand(len(labels), -1), rtol=SAME, atol=SAME):
        raise ValueError(
            "camera labels must have one focal length f for all, intrinsics [[f, 0, 0.5], [0, f, 0.5], [0, 0, 1]]; "
            f"got {labels[:, POSE:].unique(dim=0)[:2].tolist()}; crop the pictures to their optical axis"
        )
    flipped = labels[:, :POSE].unflatten(1, (4, 4))
    flipped = torch.cat([flipped[..., :3], _scaled(flipped[..., 3:], 1 / radius)], -1)
    pose = flipped * flipped.new_tensor(AXES)
    where = torch.nn.functional.normalize(pose[:, :3, 3], dim=-1)
    pitch_yaw = torch.stack([where[:, 1].clamp(-1, 1).arccos(), torch.atan2(where[:, 2], where[:, 0])], -1)
    return Camera(pose, pitch_yaw, math.degrees(2 * math.atan(0.5 / focal * (side - 1) / side)))


def mirrored_labels(labels: Tensor) -> Tensor:
    """Labels [B,25] of the mirror images: the world is mirrored in x, and so is each camera's own x axis."""
    flip = labels.new_tensor([-1.0, 1.0, 1.0, 1.0])
    pose = labels[:, :POSE].unflatten(1, (4, 4)) * flip * flip[:, None]
    return torch.cat([pose.flatten(1), labels[:, POSE:]], 1)


def at_distance_one(labels: Tensor) -> Tensor:
    """Labels [B,25] of cameras that stand where they stood, seen from the origin, at distance 1."""
    pose = labels[:, :POSE].unflatten(1, (4, 4))
    distance = pose[:, :3, 3].norm(dim=1).clamp_min(torch.finfo(labels.dtype).tiny)
    pose = torch.cat([pose[..., :3], _scaled(pose[..., 3:], 1 / distance)], -1)
    return torch.cat([pose.flatten(1), labels[:, POSE:]], 1)


def tangent(fov_deg: float, side: int) -> float:
    """Of half the angle between the picture's edges, half a pixel beyond the centres of the outermost pixels."""
    return math.tan(math.radians(fov_deg) / 2) * side / (side - 1)


def _scaled(column: Tensor, factor: float | Tensor) -> Tensor:
    """A position [B,4,1] of homogeneous coordinates in other units, one or [B]."""
    factor = torch.as_tensor(factor, dtype=column.dtype, device=column.device).view(-1, 1, 1)
    return torch.cat([column[:, :3] * factor, column[:, 3:]], 1)
