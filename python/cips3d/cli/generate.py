"""Write a grid of generated images, poses drawn as in training.

cips3d generate --run-dir runs/first --out grid.png
cips3d generate --checkpoint G_ema.pth --count 16 --psi 0.7 --out faces.png
cips3d generate --run-dir runs/first --yaws 5 --count 4 --out turned.png     each head at five yaws
cips3d generate --psis 0 0.25 0.5 0.75 1 --count 4 --out truncated.png     each head at five truncations
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from cips3d.cli.arguments import (
    add_latent_argument,
    add_model_arguments,
    check_psis,
    describe,
    model_of,
    picture_path,
    styles_of,
)
from cips3d.data import image_grid
from cips3d.render.video import save_png

YAW_SPREADS = 1.5  # --yaws covers so many standard deviations of the training poses on either side


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    add_latent_argument(parser)
    parser.add_argument("--out", type=Path, help="picture to write (default generated-seedSEED.png)")
    parser.add_argument("--count", type=int, default=16, help="number of heads (default 16)")
    parser.add_argument("--columns", type=int, help="columns of the grid (default: about square)")
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument("--yaws", type=int, help="show each head at so many yaws, one head a row")
    rows.add_argument("--psis", type=float, nargs="+", help="show each head at these truncations, one head a row")


def run(args: argparse.Namespace) -> None:
    if args.count < 1 or (args.yaws is not None and args.yaws < 1):
        raise ValueError(f"--count and --yaws must be at least 1, got {args.count} and {args.yaws}")
    check_psis("--psis", *(args.psis or ()))
    out = picture_path(args.out, f"generated-seed{args.seed}.png")
    model = model_of(args)
    if args.yaws:
        styles, columns = styles_of(args, model, args.count, args.psi), args.yaws
        images = model.turned(styles, model.yaws(args.yaws, YAW_SPREADS), args.resolution)
    else:
        psis, columns = args.psis or [args.psi], len(args.psis) if args.psis else args.columns
        each = zip(*(styles_of(args, model, args.count, psi) for psi in psis), strict=True)
        shape, appearance = (torch.stack(part, 1).flatten(0, 1) for part in each)  # head by head, each at all psis
        camera = model.poses(args.count, args.seed)[torch.arange(args.count).repeat_interleave(len(psis))]
        images = model.style_views(shape, appearance, camera, resolution=args.resolution)["inr"]
    save_png(image_grid(images, columns), out, describe(args))
    print(out)
