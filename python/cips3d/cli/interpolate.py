"""Walk from head to head: a video (.mp4, .gif, a folder) that ends where it began, or a strip (.png), a row a step.

cips3d interpolate --seeds 1 2 3 --out walk.mp4
cips3d interpolate --seeds 1 2 --vary appearance --frames 7 --out strip.png
cips3d interpolate --run-dir runs/heads --seeds 1 2 3 --space z --trajectory circle --out walk.gif

A seed is the head that `cips3d generate --count 1 --seed SEED` shows.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from cips3d.cli.arguments import add_model_arguments, check_appearance, check_seeds, codes_of, describe, model_of
from cips3d.cli.render import PITCH_SPREADS, YAW_SPREADS
from cips3d.data import image_grid
from cips3d.models.editing import walk
from cips3d.render.trajectories import TRAJECTORIES, camera_at
from cips3d.render.video import check_format, save_png, write_video
from cips3d.training.trained import TrainedModel

FRAMES, STRIP_COLUMNS = 24, 7  # default pictures a step, of videos and of strips


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser, seed=False)
    parser.add_argument("--seeds", type=int, nargs="+", required=True, metavar="SEED", help="heads to visit, in order")
    parser.add_argument(
        "--out", type=Path, help=".png, .mp4, .gif, or without suffix a folder (default walk-SEEDS.mp4, joined by _)"
    )
    parser.add_argument(
        "--frames", type=int, help=f"pictures from a head to the next (default {FRAMES}, of a strip {STRIP_COLUMNS})"
    )
    parser.add_argument("--fps", type=int, default=24, help="pictures a second (default 24)")
    parser.add_argument(
        "--space",
        choices=("w", "z"),
        default="w",
        help="w: straight through styles; z: along arcs of codes (default w)",
    )
    parser.add_argument(
        "--vary", choices=("both", "shape", "appearance"), default="both", help="the rest stays the first head's"
    )
    parser.add_argument("--trajectory", choices=TRAJECTORIES, help="camera path of the video (default: from the front)")


def run(args: argparse.Namespace) -> None:
    check_seeds("--seeds", *args.seeds)
    out = args.out or Path(f"walk-{'_'.join(map(str, args.seeds))}.mp4")
    strip = out.suffix.lower() == ".png"
    frames = args.frames if args.frames is not None else (STRIP_COLUMNS if strip else FRAMES)
    if len(args.seeds) < 2 or frames < 2 or args.fps < 1:
        raise ValueError(
            f"--seeds and --frames must be at least 2 and --fps 1, got {len(args.seeds)}, {frames} and {args.fps}"
        )
    if strip and args.trajectory:
        raise ValueError("--trajectory is for videos; a strip (.png) shows its heads from the front")
    if not strip:
        check_format(out)
    model = model_of(args)
    if args.vary != "both":
        check_appearance(model, f"--vary {args.vary}", args.space)
    if strip:
        save_png(image_grid(_strip(model, args, frames), frames), out, describe(args))
    else:
        write_video(_video(model, args, frames), out, args.fps, describe(args))
    print(out)


def _strip(model: TrainedModel, args: argparse.Namespace, frames: int) -> Tensor:
    """Images [(K - 1) * frames,3,S,S] from each of K heads to the next, both included."""
    positions = torch.cat([step + torch.linspace(0, 1, frames) for step in range(len(args.seeds) - 1)])
    camera = model.camera_at(torch.zeros(len(positions)))
    return model.style_views(*_styles(model, args, positions), camera, resolution=args.resolution)["inr"]


def _video(model: TrainedModel, args: argparse.Namespace, frames: int) -> Iterator[Tensor]:
    """Frames [3,S,S] through all heads and back to the first."""
    total = len(args.seeds) * frames
    shapes, appearances = (w.split(1) for w in _styles(model, args, torch.arange(total) / frames))
    swing = model.swing(YAW_SPREADS, PITCH_SPREADS)
    for frame in tqdm(range(total), desc="frames", unit="frame"):
        camera = camera_at(args.trajectory, swing, frame, total) if args.trajectory else model.camera_at(torch.zeros(1))
        yield model.style_views(shapes[frame], appearances[frame], camera, resolution=args.resolution)["inr"][0]


@torch.no_grad()
def _styles(model: TrainedModel, args: argparse.Namespace, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Styles [T,W], [T,W'] at `positions` of the walk."""
    codes = codes_of(model, args.seeds)
    if args.space == "w":
        codes = model.map(*codes, args.psi)
    shape, appearance = (
        walk(code, positions if args.vary in ("both", name) else torch.zeros_like(positions), args.space == "z")
        for name, code in zip(("shape", "appearance"), codes, strict=True)
    )
    return (shape, appearance) if args.space == "w" else model.map(shape, appearance, args.psi)
