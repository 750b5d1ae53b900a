"""Write a trained generator (its averaged weights) as one file that holds no code.

cips3d export --run-dir runs/heads --out heads.safetensors     for every command's --checkpoint, with poses and sampling
cips3d export --run-dir runs/ffhq --out G_ema.pth              the state dict of the public CIPS-3D code
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from cips3d.cli.arguments import add_source_arguments, describe, source_of
from cips3d.files import written_whole
from cips3d.models import Generator, export_official
from cips3d.training.model_file import SUFFIX
from cips3d.training.trained import load_model

OFFICIAL_SUFFIX = ".pth"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help=f"file to write, {SUFFIX} or {OFFICIAL_SUFFIX}")


def run(args: argparse.Namespace) -> None:
    suffix = args.out.suffix.lower()
    if suffix not in (SUFFIX, OFFICIAL_SUFFIX):
        raise ValueError(f"--out must end in {SUFFIX} or {OFFICIAL_SUFFIX}, got {args.out.name}")
    model = load_model(source_of(args))
    if suffix == SUFFIX:
        model.save(args.out, describe(args))
    else:
        if not isinstance(model.generator, Generator):
            raise ValueError(f"--out: the public CIPS-3D code has no {model.generator.config.model}; write {SUFFIX}")
        state = export_official(model.generator)
        with written_whole(args.out) as file:
            torch.save(state, file)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB")
