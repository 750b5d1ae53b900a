"""Tri-plane features of points along EG3D's camera rays, against grid_sample and mean, as EG3D computes them, and
torch.compile of those. Points have no gradient, as in EG3D's training."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from harness import Contender, compiled, in_float64, parser, record, start
from torch import Tensor

import cips3d_ext

AXES = ((0, 1), (0, 2), (2, 0))
RADIUS, NEAR, FAR, HALF_VIEW = 2.7, 2.25, 3.3, 0.16  # EG3D's camera for FFHQ; world units, and tan of half its view
SAMPLES = 48


def eager(planes: Tensor, points: Tensor) -> Tensor:
    B, P, C, H, W = planes.shape
    on_planes = torch.stack([points[..., [x, y]] for x, y in AXES], 1).reshape(B * P, 1, -1, 2).to(planes.dtype)
    features = F.grid_sample(planes.reshape(B * P, C, H, W), on_planes, "bilinear", "zeros", align_corners=False)
    return features.permute(0, 3, 2, 1).reshape(B, P, -1, C).mean(1)


def ray_points(batch: int, rays: int) -> Tensor:
    """Points [B, rays^2 SAMPLES, 3] along the rays of cameras all around the head's front, times 2 / box_warp = 2."""
    steps = torch.linspace(-HALF_VIEW, HALF_VIEW, rays)
    v, u = torch.meshgrid(steps, steps, indexing="ij")
    directions = F.normalize(torch.stack([u, v, -torch.ones_like(u)], -1), dim=-1).reshape(-1, 1, 3)
    cells = torch.linspace(NEAR, FAR, SAMPLES + 1)[:-1]
    depths = cells + (FAR - NEAR) / SAMPLES * torch.rand(batch, rays * rays, SAMPLES)
    points = torch.tensor([0.0, 0.0, RADIUS]) + directions * depths[..., None]
    yaw = math.pi * (torch.rand(batch) / 2 - 0.25)
    cos, sin, zero = yaw.cos(), yaw.sin(), torch.zeros(batch)
    rotation = torch.stack([cos, zero, sin, zero, zero + 1, zero, -sin, zero, cos], -1).reshape(batch, 1, 3, 3)
    return 2 * (points.flatten(1, 2)[..., None, :] @ rotation.transpose(-1, -2)).squeeze(-2)


def main() -> None:
    args = parser("sample_planes").parse_args()
    start(args)
    cases = [(1, 256, 64), (1, 64, 64), (1, 128, 64), (4, 256, 64), (1, 256, 128)]
    for B, H, rays in [(1, 8, 4)] if args.quick else cases:
        points = ray_points(B, rays).to(args.device)
        planes = torch.randn(B, len(AXES), 32, H, H).to(args.device).requires_grad_()
        made = [
            Contender("eager", lambda planes=planes, points=points: eager(planes, points), [planes], slowest_s=600),
            Contender(
                "ours",
                lambda planes=planes, points=points: cips3d_ext.sample_planes(planes, points, axes=AXES, impl="fused"),
                [planes],
            ),
        ]
        if not args.no_compile:
            made.append(compiled(made[0]))
        case = {"B": B, "P": len(AXES), "C": 32, "H": H, "N": points.shape[1], "dtype": "float32"}
        record(args, "sample_planes", case, made, in_float64(lambda p, points=points: eager(p, points), [planes]))


if __name__ == "__main__":
    main()
