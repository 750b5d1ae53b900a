"""Make, import or inspect data sets.

cips3d data make heads.zip --count 1000 --resolution 64       procedural heads as a StyleGAN-format zip
cips3d data make toons.zip --set toon-heads                    the same heads, drawn
cips3d data lfw faces.zip                                     100 small real photographs
cips3d data inspect faces.zip --grid faces.png                what is in a zip, a folder, or a procedural set
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cips3d.data import inspect, make_lfw_zip, make_synthetic
from cips3d.data.synthetic import PROCEDURAL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    make = actions.add_parser("make", help="render synthetic heads into a zip")
    make.add_argument("out", type=Path, help="zip to write")
    make.add_argument("--count", type=int, default=1000, help="number of heads (default 1000)")
    make.add_argument("--resolution", type=int, default=64, help="side in pixels (default 64)")
    make.add_argument("--seed", type=int, default=0, help="which population (default 0)")
    make.add_argument("--set", choices=PROCEDURAL, default="synthetic-heads", help="which heads (default %(default)s)")
    lfw = actions.add_parser("lfw", help="write the 100 real faces that scikit-image bundles (25 x 25, grey)")
    lfw.add_argument("out", type=Path, help="zip to write")
    look = actions.add_parser("inspect", help="summarise a data set and show its first pictures")
    look.add_argument("source", help=f"zip, folder, {' or '.join(PROCEDURAL)}")
    look.add_argument("--resolution", type=int, help="side in pixels (default: as stored)")
    look.add_argument("--size", type=int, default=64, help="of procedural heads: how many (default 64)")
    look.add_argument("--grid", type=Path, help="write the first pictures into this file")


def run(args: argparse.Namespace) -> None:
    if args.action == "make":
        if args.count < 1 or args.resolution < 1:
            raise ValueError(f"--count and --resolution must be at least 1, got {args.count} and {args.resolution}")
        print(f"{make_synthetic(args.out, args.count, args.resolution, args.seed, name=args.set)} images in {args.out}")
    elif args.action == "lfw":
        print(f"{make_lfw_zip(args.out)} images in {args.out}")
    else:
        summary, grid = inspect(args.source, args.resolution, size=args.size)
        for key, value in summary.items():
            print(f"{key:<12}{value}")
        if args.grid:
            args.grid.parent.mkdir(parents=True, exist_ok=True)
            grid.save(args.grid)
            print(args.grid)
