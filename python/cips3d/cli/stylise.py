"""Blend a model with one that was transferred from it: a row for each head, a column for each strength.

cips3d stylise --base runs/heads --target runs/toons --out toons.png
cips3d stylise --base runs/heads --target runs/toons --blocks 2 3 --strengths 0 1 --out swapped.png     swaps two blocks
cips3d stylise --base G_ema.pth --target cartoon.pth --strengths 0.6 --save half.safetensors            keeps the blend

Codes and poses of a row are the same in all columns. What was saved is a model for every command's --checkpoint.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch

from cips3d.cli.arguments import add_picture_arguments, check_picture_arguments, describe, picture_path
from cips3d.data import image_grid
from cips3d.models.editing import blend
from cips3d.render.video import save_png
from cips3d.training.model_file import SUFFIX
from cips3d.training.trained import load_model

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = "run folder, .safetensors file, or official state dict (.pth)"
    parser.add_argument("--base", type=Path, required=True, help=f"model whose shapes are kept: {source}")
    parser.add_argument(
        "--target", type=Path, required=True, help="model that was transferred from it, of the same kinds"
    )
    parser.add_argument("--out", type=Path, help="picture to write (default stylised-seedSEED.png)")
    parser.add_argument("--save", type=Path, help=f"also write the blended model ({SUFFIX}); wants one strength")
    parser.add_argument(
        "--strengths", type=float, nargs="+", default=list(STRENGTHS), help="0: base ... 1: target (default five)"
    )
    parser.add_argument(
        "--blocks", type=int, nargs="+", help="INR blocks, from 0, that move, with their to-RGB heads (default: all)"
    )
    parser.add_argument("--count", type=int, default=4, help="number of heads (default 4)")
    add_picture_arguments(parser, "side in pixels (default: that of the base's training)")


def run(args: argparse.Namespace) -> None:
    check_picture_arguments(args)
    if args.count < 1:
        raise ValueError(f"--count must be at least 1, got {args.count}")
    if args.save and (len(args.strengths) != 1 or args.save.suffix.lower() != SUFFIX):
        raise ValueError(
            f"--save must end in {SUFFIX} and wants one of --strengths, got {args.save.name} and {args.strengths}"
        )
    out = picture_path(args.out, f"stylised-seed{args.seed}.png")
    base, target = (load_model(path, args.device, args.impl) for path in (args.base, args.target))
    models = [
        dataclasses.replace(base, generator=blend(base.generator, target.generator, strength, args.blocks))
        for strength in args.strengths
    ]
    camera = base.poses(args.count, args.seed)
    columns = [
        model.style_views(*model.styles(args.count, args.seed, args.psi), camera, resolution=args.resolution)["inr"]
        for model in models
    ]
    save_png(image_grid(torch.stack(columns, 1).flatten(0, 1), len(columns)), out, describe(args))
    print(out)
    if args.save:
        models[0].save(args.save, describe(args))
        print(args.save)
