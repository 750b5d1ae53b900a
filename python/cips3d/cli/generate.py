"""Write a grid of generated images, poses drawn as in training.

cips3d generate --run-dir runs/first --out grid.png
cips3d generate --checkpoint G_ema.pth --count 16 --psi 0.7 --out faces.png
cips3d generate --run-dir runs/first --yaws 5 --count 4 --out turned.png     each head at five yaws
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cips3d.cli.arguments import add_model_arguments, describe, model_of
from cips3d.data import image_grid
from cips3d.render.video import save_png

YAW_SPREADS = 1.5  # --yaws covers so many standard deviations of the training poses on either side


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    parser.add_argument("--out", type=Path, help="picture to write (default generated-seedSEED.png)")
    parser.add_argument("--count", type=int, default=16, help="number of heads (default 16)")
    parser.add_argument("--columns", type=int, help="columns of the grid (default: about square)")
    parser.add_argument("--yaws", type=int, help="show each head at so many yaws, one head a row")


def run(args: argparse.Namespace) -> None:
    if args.count < 1 or (args.yaws is not None and args.yaws < 1):
        raise ValueError(f"--count and --yaws must be at least 1, got {args.count} and {args.yaws}")
    out = args.out or Path(f"generated-seed{args.seed}.png")
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out must end in .png, got {out.name}")
    model = model_of(args)
    styles = model.styles(args.count, args.seed, args.psi)
    if args.yaws:
        images = model.turned(styles, model.yaws(args.yaws, YAW_SPREADS), args.resolution)
    else:
        camera = model.poses(args.count, args.seed)
        images = model.style_views(*styles, camera, resolution=args.resolution)["inr"]
    out.parent.mkdir(parents=True, exist_ok=True)
    save_png(image_grid(images, args.yaws or args.columns), out, describe(args))
    print(out)
