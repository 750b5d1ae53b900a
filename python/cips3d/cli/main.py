"""Reads the command line and runs one subcommand; a user's error is one readable line and exit code 2."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

# Subcommands in the order of a first visit. Each module has HELP, add_arguments(parser) and run(args); only the one
# that runs is imported.
COMMANDS = {
    "train": "train a generator, or go on with a run",
    "generate": "write a grid of generated images",
    "render": "write a video of heads along a camera path",
    "mix": "mix the shapes of heads with the appearances of others",
    "interpolate": "walk from head to head",
    "stylise": "blend a model with one that was transferred from it",
    "mesh": "write a head's surface as a mesh",
    "evaluate": "measure a generator: FID and its kin, pose, depth, mirror symmetry, speed",
    "export": "write a trained generator as one .safetensors or official .pth file",
    "invert": "find a picture's head and pose, and show it at new poses",
    "data": "make, convert, check or inspect data sets",
    "info": "tell what is installed and which kernels run",
    "bench": "measure the fused kernels against the references on this machine",
    "demo": "train, render and report in about ten minutes",
}
TOGETHER = ("train", "evaluate")  # those that several processes, started by torchrun, can do together
USER_ERROR = 2


def main(argv: Sequence[str] | None = None) -> None:
    """Runs `cips3d` with `argv` (default: the process's own). Exits with 2 on a user's error, 130 on Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    command = words[0] if words and words[0] in COMMANDS else None
    parser = argparse.ArgumentParser(
        prog="cips3d",
        description="CIPS-3D: a 3D-aware GAN on fused kernels.",
        epilog="first steps:  cips3d train --preset tiny --run-dir runs/first\n"
        "              cips3d generate --run-dir runs/first --out grid.png\n"
        "`cips3d COMMAND --help` explains each command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        if name != command:
            subparsers.add_parser(name, help=summary, add_help=False)
            continue
        module = importlib.import_module(f"cips3d.cli.{name}")
        subparser = subparsers.add_parser(
            name,
            help=summary,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(subparser)
    args = parser.parse_args(words)
    try:
        _run(args)
    except (ValueError, TypeError, OSError, RuntimeError, MemoryError) as error:
        number = os.environ.get("RANK", "0")
        process = "" if number == "0" else f", process {number}"
        print(f"cips3d {args.command}{process}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(USER_ERROR)
    except KeyboardInterrupt:
        sys.exit(130)


def _run(args: argparse.Namespace) -> None:
    command = importlib.import_module(f"cips3d.cli.{args.command}")
    distributed = importlib.import_module("cips3d.distributed")
    if distributed.launched() and args.command not in TOGETHER:
        raise ValueError(f"torchrun can start several processes of {' and '.join(TOGETHER)} alone; run this without it")
    if "device" in args:
        args.device = distributed.own_device(args.device)
        importlib.import_module("cips3d.cli.arguments").check_device(args.device)
    with distributed.joined(getattr(args, "device", "cpu")):
        command.run(args)
