"""Make, convert, check or inspect data sets.

cips3d data make heads.zip --count 1000 --resolution 64       procedural heads as a StyleGAN-format zip
cips3d data make toons.zip --set toon-heads                    the same heads, drawn
cips3d data lfw faces.zip                                     100 small real photographs
cips3d data convert photographs/ faces.zip --resolution 256   a folder, zip or shards as another of them
cips3d data convert faces.zip 'shards/faces-%04d.tar'         WebDataset shards of 1000 images
cips3d data inspect faces.zip --grid faces.png                what is in a set
cips3d data inspect 'shards/faces-{0000..0069}.tar' --check   decode every image, name the corrupt ones

A set is a folder of images, a .zip of images, or shards: a .tar, a folder of .tar files, a range in braces, or a URL of
such (http, https). What is there already is not overwritten.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from cips3d.data import check, convert, inspect, make_lfw, make_synthetic, open_as_stored
from cips3d.data.synthetic import PROCEDURAL
from cips3d.data.writers import SHARD_SIZE

OUT = "what to write: a .zip, a .tar, NAME-%%04d.tar for shards, or else a folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    make = actions.add_parser("make", help="render synthetic heads")
    make.add_argument("out", type=Path, help=OUT)
    make.add_argument("--count", type=int, default=1000, help="number of heads (default 1000)")
    make.add_argument("--resolution", type=int, default=64, help="side in pixels (default 64)")
    make.add_argument("--seed", type=int, default=0, help="which population (default 0)")
    make.add_argument("--set", choices=PROCEDURAL, default="synthetic-heads", help="which heads (default %(default)s)")

    lfw = actions.add_parser("lfw", help="write the 100 real faces that scikit-image bundles (25 x 25, grey)")
    lfw.add_argument("out", type=Path, help=OUT)

    other = actions.add_parser("convert", help="write a set as another kind: PNG, centred squares, labels kept")
    other.add_argument("source", help="zip, folder or shards")
    other.add_argument("out", type=Path, help=OUT)
    other.add_argument("--resolution", type=int, help="side in pixels (default: as stored)")
    other.add_argument("--shard-size", type=int, default=SHARD_SIZE, help="images a shard (default %(default)s)")
    _add_reading_arguments(other, "stop at a corrupt image, or name it and leave it out (default stop)")

    look = actions.add_parser("inspect", help="summarise a data set, show its first pictures, check all")
    look.add_argument("source", help=f"zip, folder, shards, {' or '.join(PROCEDURAL)}")
    look.add_argument("--resolution", type=int, help="side in pixels (default: as stored)")
    look.add_argument("--size", type=int, default=64, help="of procedural heads: how many (default 64)")
    look.add_argument("--grid", type=Path, help="write the first pictures into this file")
    look.add_argument("--check", action="store_true", help="decode all; name the corrupt images, exit with 2 if any")
    _add_reading_arguments(look, "stop at a corrupt image, or name it and show the next one (default stop)")


def _add_reading_arguments(parser: argparse.ArgumentParser, on_corrupt: str) -> None:
    parser.add_argument("--on-corrupt", choices=("stop", "skip"), default="stop", help=on_corrupt)
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--workers", type=int, default=cores, help="processes that decode (default: one a core)")


def run(args: argparse.Namespace) -> None:
    if args.action == "make":
        if args.count < 1 or args.resolution < 1:
            raise ValueError(f"--count and --resolution must be at least 1, got {args.count} and {args.resolution}")
        print(f"{make_synthetic(args.out, args.count, args.resolution, args.seed, name=args.set)} images in {args.out}")
    elif args.action == "lfw":
        print(f"{make_lfw(args.out)} images in {args.out}")
    elif args.action == "convert":
        count, problems = convert(
            args.source,
            args.out,
            args.resolution,
            shard_size=args.shard_size,
            on_corrupt=args.on_corrupt,
            workers=args.workers,
        )
        print(f"{count} images in {args.out}")
        if problems:
            print(f"{len(problems)} corrupt ones, named above, are left out")
    else:
        _inspect(args)


def _inspect(args: argparse.Namespace) -> None:
    if args.check:
        problems = check(open_as_stored(args.source, args.resolution, size=args.size, on_corrupt="skip"), args.workers)
        for problem in problems:
            print(problem)
        if problems:
            raise ValueError(f"{len(problems)} images of {args.source} are corrupt, named above")
    summary, grid = inspect(open_as_stored(args.source, args.resolution, size=args.size, on_corrupt=args.on_corrupt))
    for key, value in {"data": args.source, **summary}.items():
        print(f"{key:<12}{value}")
    if args.grid:
        args.grid.parent.mkdir(parents=True, exist_ok=True)
        grid.save(args.grid)
        print(args.grid)
