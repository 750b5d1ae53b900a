"""Style mixing: each head of the grid has the shape of its row and the appearance of its column.

cips3d mix --rows 1 2 3 --columns 4 5 6 7 --out mixed.png
cips3d mix --run-dir runs/heads --rows 1 2 3 --columns 4 5 6 --blocks 0 1 --out coarse.png

With --blocks only these blocks of the INR take the appearance of the column, the others keep that of the row. The first
column and row show the heads that are mixed. A seed is the head that `cips3d generate --count 1 --seed SEED` shows.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from cips3d.cli.arguments import (
    add_model_arguments,
    check_appearance,
    check_seeds,
    codes_of,
    describe,
    model_of,
    picture_path,
)
from cips3d.data import image_grid
from cips3d.models.editing import mix_styles
from cips3d.render.video import save_png


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser, seed=False)
    parser.add_argument("--rows", type=int, nargs="+", required=True, metavar="SEED", help="heads that give the shape")
    parser.add_argument(
        "--columns", type=int, nargs="+", required=True, metavar="SEED", help="heads that give the appearance"
    )
    parser.add_argument(
        "--blocks", type=int, nargs="+", help="INR blocks (layers), from 0, that the column styles (default: all)"
    )
    parser.add_argument("--out", type=Path, help="picture to write (default mixed-ROWS-COLUMNS.png, seeds joined by _)")


def run(args: argparse.Namespace) -> None:
    check_seeds("--rows", *args.rows)
    check_seeds("--columns", *args.columns)
    out = picture_path(args.out, f"mixed-{'_'.join(map(str, args.rows))}-{'_'.join(map(str, args.columns))}.png")
    model = model_of(args)
    check_appearance(model, "--rows and --columns")
    rows, columns = len(args.rows), len(args.columns)
    w_shape, w_appearance = model.map(*codes_of(model, [*args.columns, *args.rows]), args.psi)
    # Every picture's shape and appearance as indices into these: the columns' own heads, then row by row.
    shape, appearance = [*range(columns)], [*range(columns)]
    for row in range(columns, columns + rows):
        shape += [row] * (1 + columns)
        appearance += [row, *range(columns)]
    count = model.generator.appearance_layers
    blocks = range(count) if args.blocks is None else args.blocks
    styles = mix_styles(w_appearance[shape], w_appearance[appearance], blocks, count)
    camera = model.camera_at(torch.zeros(len(shape)))
    images = model.style_views(w_shape[shape], styles, camera, resolution=args.resolution)["inr"]
    corner = torch.ones_like(images[:1])
    save_png(image_grid(torch.cat([corner, images]), 1 + columns), out, describe(args))
    print(out)
