"""Measure the fused kernels against the references on this machine: forward and backward of each op at the shapes of a
small CIPS-3D, and of the whole generator. The contenders alternate; medians are shown.

  cips3d bench
  cips3d bench --threads 1 --rounds 15
"""

from __future__ import annotations

import argparse

import torch

from cips3d.cli.arguments import default_device
from cips3d.metrics.speed import compare, speed_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default=default_device(), help="cpu, cuda, ... (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds of each contender (default 7)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's own choice)")


def run(args: argparse.Namespace) -> None:
    if args.rounds < 1 or (args.threads is not None and args.threads < 1):
        raise ValueError(f"--rounds and --threads must be at least 1, got {args.rounds} and {args.threads}")
    if args.threads:
        torch.set_num_threads(args.threads)
    print(speed_table(compare(args.device, args.rounds)))
