"""From rays to features (12 + 12 samples through CIPS-3D's field) at its training images.

Against the official chain of operations and torch.compile of it.
"""

from __future__ import annotations

import argparse

import torch
from bench_siren_field import GAMMA, MOST_CHECKED, dtypes
from harness import DIRECTIONS, Contender, compiled, in_float64, parser, record, start
from official_form import FAR, NEAR, WARP, Field, example_field, ray_chain
from torch import Tensor

import cips3d_ext
from cips3d.render import Camera, camera_rays

SAMPLES = 12
SURFACE = (0.5, 3.0)  # spread and mean of the density's map: some rays meet a surface, others only fog


def eager(origins: Tensor, directions: Tensor, jitter: Tensor, u: Tensor, *flat: Tensor) -> tuple[Tensor, Tensor]:
    return ray_chain(origins, directions, jitter, u, lambda: Field.of(flat))


def render(impl: str, origins: Tensor, directions: Tensor, jitter: Tensor, u: Tensor, *flat: Tensor) -> list[Tensor]:
    field = Field.of(flat)._asdict()
    options = {"near": NEAR, "far": FAR, "point_scale": WARP, **GAMMA}
    out = cips3d_ext.render_rays(origins, directions, **field, jitter=jitter, u=u, **options, impl=impl)
    return [out.feature, out.weights]


def run_case(args: argparse.Namespace, B: int, resolution: int, dtype: torch.dtype) -> None:
    R, S = resolution**2, 4 if args.quick else SAMPLES
    rays = camera_rays(Camera.sample(B, generator=torch.Generator().manual_seed(0)), resolution)
    field = example_field(B)
    spread, mean = SURFACE
    field[4], field[5] = spread * torch.randn(1, 128), torch.full((1,), mean)
    fixed = [t.to(args.device, dtype) for t in (*rays, torch.rand(B, R, S), torch.rand(B, R, S))]
    inputs = [t.to(args.device, dtype).requires_grad_() for t in field]
    made = [
        Contender("eager", lambda: eager(*fixed, *inputs), inputs),
        Contender("ours", lambda: render("auto", *fixed, *inputs), inputs),
    ]
    if not args.no_compile:
        made.append(compiled(made[0]))
    case = {"B": B, "R": R, "S": S, "rays": B * R, "dtype": str(dtype).removeprefix("torch.")}
    directions = DIRECTIONS if 2 * S * B * R <= MOST_CHECKED else ("forward",)
    record(args, "render_rays", case, made, in_float64(eager, [*fixed, *inputs], directions))


def main() -> None:
    args = parser("render_rays").parse_args()
    start(args)
    on_gpu = args.device != "cpu"
    sizes = [(2, 4)] if args.quick else [(8, 64), (4, 256)] if on_gpu else [(4, 32)]
    for dtype in dtypes(args.device):
        for B, resolution in sizes:
            run_case(args, B, resolution, dtype)


if __name__ == "__main__":
    main()
