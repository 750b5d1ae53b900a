"""Train a generator into a run folder; the same command again goes on where the run stopped.

  cips3d train --preset tiny --run-dir runs/first                           seconds, to see it work
  cips3d train --preset demo --run-dir runs/heads --set schedule.minutes=30
  cips3d train --preset released_ffhq --run-dir runs/ffhq --data ffhq.zip --device cuda
  torchrun --nproc-per-node 8 -m cips3d train --preset released_ffhq --run-dir runs/ffhq --data ffhq.zip
  cips3d train --preset released_afhq --run-dir runs/afhq --data afhq.zip --from runs/ffhq --device cuda

Ctrl-C and SIGTERM save before they stop.
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
from pathlib import Path

from cips3d.cli.arguments import add_device_arguments
from cips3d.config import preset_names
from cips3d.config.training import TrainingConfig, load_training, replace
from cips3d.distributed import is_main
from cips3d.training.loop import train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", required=True, help=f"one of: {', '.join(preset_names('training'))}")
    parser.add_argument("--run-dir", type=Path, required=True, help="folder of this run, made if it does not exist")
    parser.add_argument(
        "--from", dest="start_from", type=Path, metavar="RUN", help="begin with the networks of another run (transfer)"
    )
    parser.add_argument(
        "--data", help="synthetic-heads, toon-heads, a folder of images, a .zip or shards (default: the preset's)"
    )
    parser.add_argument("--steps", type=int, help="end at this step (default: the preset's); more later goes on")
    parser.add_argument("--minutes", type=float, help="end after so much training time (default: the preset's)")
    parser.add_argument("--seed", type=int, help="of weights, codes and the data's order (default: the preset's)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change any value, e.g. optimizer.g_lr=1e-4"
    )
    add_device_arguments(parser)


def configuration(args: argparse.Namespace) -> TrainingConfig:
    """The preset with every option of the command line applied."""
    config = load_training(args.preset, args.set)
    if args.data is not None:
        config = replace(config, "data", source=args.data)
    if args.steps is not None:
        config = replace(config, "schedule", last_step=args.steps)
    if args.minutes is not None:
        config = replace(config, "schedule", minutes=args.minutes)
    return config if args.seed is None else dataclasses.replace(config, seed=args.seed)


def run(args: argparse.Namespace) -> None:
    result = train(configuration(args), args.run_dir, args.device, args.impl, args.start_from)
    signalled = result.reason in signal.Signals.__members__
    how = f"stopped by {result.reason}" if signalled else f"done ({result.reason})"
    if is_main():
        print(f"{how} at step {result.step} after {result.seconds / 60:.1f} min of training; saved {result.checkpoint}")
    if signalled:
        if is_main():
            print("the same command goes on from there")
        sys.exit(128 + signal.Signals[result.reason])  # the shell's convention for a program that a signal ended
