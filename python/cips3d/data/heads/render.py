"""Pictures of synthetic heads: rays, sphere tracing, shading, area down-sampling.

The camera is the generator's (cips3d.render.rays): pixel rays pass through the pixels' corners, the outer ones exactly
along the edges of the field of view; sub-pixel rays lie evenly around them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cips3d.data.heads.parameters import HeadParameters, HeadPose, sample_parameters, sample_pose
from cips3d.data.heads.sdf import HeadSDF
from cips3d.data.heads.shading import shade
from cips3d.data.heads.toon import draw, shade_toon
from cips3d.render import Camera

FOV_DEG = 12.0
FOV = math.radians(FOV_DEG)
NEAR, FAR = 0.88, 1.12  # distances along a ray between which a head lies
STEPS = 40  # rays that graze a groove need most of them; after a dozen few rays are left
HIT = 2e-4  # world units: a 16th of a pixel at 64 x 64
STEP_SCALE = 0.9  # the distance is exact to first order only, so steps stay a little short
GIVE_UP = 10  # a ray that still creeps along a silhouette counts as a hit within GIVE_UP * HIT after the last step
LONGEST_STEP = 2.5  # times the distance, on the way to an oblique surface; longer ones would jump over ears and locks
BLOCK = 4  # one cone stands for BLOCK x BLOCK rays until it comes near the surface
CONE_MARGIN = 1.3  # cones stop this much earlier than their radius asks, since distances are approximate


@dataclass(frozen=True)
class Look:
    """How a head is painted: `dress` changes colours and what is painted on (never the shape), `shade` lights it."""

    dress: Callable[[HeadParameters], HeadParameters]
    shade: Callable[[HeadParameters, HeadSDF, Tensor, Tensor], Tensor]


LOOKS = {"natural": Look(lambda parameters: parameters, shade), "toon": Look(draw, shade_toon)}


@dataclass(frozen=True)
class HeadImage:
    """image [3,S,S] uint8; depth [S,S] float32: distance along the pixel's ray, inf where background is seen."""

    image: Tensor
    depth: Tensor
    pose: HeadPose


def camera_basis(pose: HeadPose) -> tuple[Tensor, Tensor]:
    """Origin [3,1] and rotation [3,3] (columns right, up, backward), float32, of the camera at `pose`."""
    angles = torch.tensor([pose.yaw, pose.pitch], dtype=torch.float64)
    cam2world = Camera.from_angles(angles[:1], angles[1:]).cam2world[0].float()
    return cam2world[:3, 3:], cam2world[:3, :3]


def _grid(resolution: int, supersample: int) -> Tensor:
    """x of sub-pixel columns [resolution * supersample], evenly around the pixels' own x = linspace(-1, 1)."""
    pitch = 2 / max(resolution - 1, 1)
    steps = (torch.arange(resolution * supersample, dtype=torch.float64) + 0.5) / supersample - 0.5
    return (steps * pitch - 1).float()


def _rays(x: Tensor, rotation: Tensor) -> Tensor:
    """Unit directions [3, S*S], row-major, of the pixels at columns x [S] and rows -x."""
    grid_y, grid_x = torch.meshgrid(-x, x, indexing="ij")
    backward = torch.full_like(grid_x, -1 / math.tan(FOV / 2))
    return rotation @ torch.nn.functional.normalize(torch.stack([grid_x, grid_y, backward]).flatten(1), dim=0)


def trace(
    sdf: HeadSDF, origin: Tensor, directions: Tensor, start: Tensor, tolerance: float, longest_step: float
) -> Tensor:
    """Sphere tracing. origin [3,1], directions [3,N], start [N] -> where the distance falls below `tolerance` [N].

    inf where that does not happen before FAR. Steps are at most `longest_step` times the distance (1 never leaves
    anything out). Rays that are done leave the computation.
    """
    depth = torch.full_like(start, math.inf)
    active = start.isfinite().nonzero()[:, 0]
    along, directions = start[active], directions[:, active]
    before, stride = torch.full_like(along, math.inf), torch.zeros_like(along)  # the last distance and step
    for step in range(STEPS):
        distance = sdf(origin + directions * along)
        hit = distance.abs() < (tolerance if step < STEPS - 1 else max(tolerance, HIT * GIVE_UP))
        depth[active[hit]] = along[hit]
        # The secant step: the distance shrinks by (before - distance) over stride on the way to an oblique surface.
        gain = (stride / (before - distance)).clamp(1, longest_step)
        stride = distance * torch.where(distance < before, gain, 1.0) * STEP_SCALE
        going = ~hit & (along + stride < FAR)
        active, along, directions = active[going], (along + stride)[going], directions[:, going]
        before, stride = distance[going], stride[going]
        if not len(active):
            break
    return depth


def _trace_image(sdf: HeadSDF, origin: Tensor, rotation: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Depth [N] and directions [3,N] of the rays at columns x [S] and rows -x: cones first, rays from their ends."""
    size = len(x)
    blocks = -(-size // BLOCK)
    width = (x[-1] - x[0]) / max(size - 1, 1)  # between neighbouring rays
    middles = x[0] + width * (torch.arange(blocks) * BLOCK + (BLOCK - 1) / 2)
    radius = FAR * math.tan(FOV / 2) * float(width) * BLOCK / math.sqrt(2)  # half a block's diagonal, at most
    start = torch.full((blocks * blocks,), NEAR)
    start = trace(sdf, origin, _rays(middles, rotation), start, CONE_MARGIN * radius, 1.0).view(1, 1, blocks, blocks)
    fine = torch.nn.functional.interpolate(start, scale_factor=BLOCK, mode="nearest")[0, 0, :size, :size]
    directions = _rays(x, rotation)
    return trace(sdf, origin, directions, fine.flatten(), HIT, LONGEST_STEP), directions


def _background(parameters: HeadParameters, rows: int) -> Tensor:
    """[3, rows, 1]: from the bottom colour to the top colour."""
    bottom, top = (torch.tensor(colour)[:, None] for colour in parameters.background)
    return (top + (bottom - top) * torch.linspace(0, 1, rows))[..., None]


def _pool_depth(depth: Tensor, supersample: int) -> Tensor:
    """Mean depth [S,S] of a pixel's surface samples, inf where fewer than half of them see a surface."""
    blocks = depth.unflatten(0, (-1, supersample)).unflatten(2, (-1, supersample)).movedim(1, 2).flatten(2)
    seen = blocks.isfinite()
    count = seen.sum(-1)
    mean = torch.where(seen, blocks, 0.0).sum(-1) / count.clamp(min=1)
    return torch.where(2 * count >= supersample**2, mean, math.inf)


@torch.no_grad()
def render_head(
    parameters: HeadParameters, pose: HeadPose, resolution: int, supersample: int = 2, look: str = "natural"
) -> HeadImage:
    """One picture of `parameters` from `pose` in a look of LOOKS; supersample^2 rays a pixel are averaged."""
    if resolution < 1 or supersample < 1:
        raise ValueError(
            f"render_head: resolution and supersample must be at least 1, got {resolution} and {supersample}"
        )
    size = resolution * supersample
    sdf = HeadSDF(parameters)
    painted = LOOKS[look].dress(parameters)
    origin, rotation = camera_basis(pose)
    depth, directions = _trace_image(sdf, origin, rotation, _grid(resolution, supersample))
    seen = depth.isfinite()
    image = _background(painted, size).expand(3, size, size).flatten(1).clone()
    directions = directions[:, seen]
    image[:, seen] = LOOKS[look].shade(painted, sdf, origin + directions * depth[seen], directions)
    image = torch.nn.functional.avg_pool2d(image.unflatten(1, (size, size)), supersample)
    return HeadImage(
        image=(image * 255).round().to(torch.uint8), depth=_pool_depth(depth.view(size, size), supersample), pose=pose
    )


def render_indexed(seed: int, index: int, resolution: int, supersample: int = 2, look: str = "natural") -> HeadImage:
    """Head number `index` of the population `seed`, from its own pose."""
    return render_head(sample_parameters(seed, index), sample_pose(seed, index), resolution, supersample, look)
