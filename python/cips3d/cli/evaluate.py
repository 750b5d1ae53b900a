"""Measure a generator: distances to real pictures (FID, KID, precision and recall), and whether its heads are 3D.

  cips3d evaluate --run-dir runs/heads                                           all 3D metrics that its data set allows
  cips3d evaluate --run-dir runs/ffhq --metrics fid kid pr --device cuda         the paper's protocol, 50,000 pictures
  cips3d evaluate --run-dir runs/heads --metrics fd_small mirror --count 2000 --heads 64
  cips3d evaluate --run-dir runs/heads --metrics --throughput 32 64 128          speed and memory alone
  torchrun --nproc-per-node 8 -m cips3d evaluate --run-dir runs/ffhq --metrics fid --device cuda

fid, kid, pr need the extra `metrics` and Inception's weights, which torch-fidelity downloads, or --inception-weights.
fd_small, kd_small, pr_small are the same on the features of a small random network: no weights, and no FID.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from cips3d import distributed
from cips3d.cli.arguments import SEEDS, add_device_arguments, add_source_arguments, describe, source_of
from cips3d.data import ImageDataset, open_dataset
from cips3d.files import written_whole
from cips3d.metrics.distances import PAPER_COUNT
from cips3d.metrics.evaluation import HEADS, METRICS, Evaluation
from cips3d.metrics.throughput import measure_throughput
from cips3d.training.checkpoint import LATEST
from cips3d.training.trained import load_model, read_run

FEWEST = 4  # pictures that a distance, and heads that a correlation can be taken of
LABEL = 34  # width of the table's first column


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_arguments(parser)
    parser.add_argument("--data", help="the real images: synthetic-heads, a folder or a .zip (default: the run's own)")
    parser.add_argument("--xflip", action="store_true", help="count every real image's mirror image as well")
    parser.add_argument(
        "--metrics",
        nargs="*",
        metavar="METRIC",
        help=f"of {', '.join(METRICS)} (default: all 3D metrics that the data set allows)",
    )
    parser.add_argument(
        "--count", type=int, default=PAPER_COUNT, help="generated pictures of fid, kid, pr, ... (default %(default)s)"
    )
    parser.add_argument("--heads", type=int, default=HEADS, help="new heads of the 3D metrics (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of codes, poses and regressors (default 0)")
    parser.add_argument(
        "--inception-weights", type=Path, metavar="FILE", help="torch-fidelity's, where it has no network"
    )
    parser.add_argument(
        "--throughput", type=int, nargs="+", metavar="SIDE", default=[], help="measure speed and memory at these sides"
    )
    parser.add_argument("--out", type=Path, help="results as JSON (default evaluation-seedSEED.json)")
    add_device_arguments(parser)


def run(args: argparse.Namespace) -> None:
    _check(args)
    out = args.out or Path(f"evaluation-seed{args.seed}.json")
    model = load_model(source_of(args), args.device, args.impl)
    images = _real_images(args, model.resolution)
    evaluation = Evaluation(model, images, args.count, args.heads, args.seed, args.inception_weights)
    names = evaluation.metrics_3d() if args.metrics is None else args.metrics
    measured = evaluation.measure(names)
    speeds = distributed.from_main(lambda: [measure_throughput(model, side, args.seed) for side in args.throughput])
    if distributed.is_main():
        result = {
            "command": describe(args),
            "seed": args.seed,
            "resolution": model.resolution,
            "data": None if images is None else {"kind": type(images).__name__, "images": len(images)},
            "metrics": measured,
            "throughput": [dataclasses.asdict(speed) for speed in speeds],
        }
        print(_table(result))
        with written_whole(out) as file:
            file.write(json.dumps(_without_nan(result), indent=2, allow_nan=False).encode())
        print(out)


def _check(args: argparse.Namespace) -> None:
    """What is wrong is said before anything is loaded."""
    for name in ("count", "heads"):
        if getattr(args, name) < FEWEST:
            raise ValueError(f"--{name} must be at least {FEWEST}, got {getattr(args, name)}")
    if not -SEEDS <= args.seed < SEEDS:
        raise ValueError(f"--seed must be in -2^63 .. 2^63 - 1, got {args.seed}")
    if min(args.throughput, default=2) < 2:
        raise ValueError(f"--throughput: sides must be at least 2 pixels, got {min(args.throughput)}")
    unknown = [name for name in args.metrics or () if name not in METRICS]
    if unknown:
        raise ValueError(f"--metrics must be some of {', '.join(METRICS)}, got {', '.join(unknown)}")


def _real_images(args: argparse.Namespace, resolution: int) -> ImageDataset | None:
    """The data set that is given, or that of the run; None where the model is a file that names none."""
    source = source_of(args)
    if source.is_dir() or source.name == LATEST.name:
        data = read_run(source)[0].data
        options: dict[str, Any] = {"size": data.size, "seed": data.seed, "on_corrupt": data.corrupt}
        return open_dataset(args.data or data.source, resolution, xflip=args.xflip, **options)
    return None if args.data is None else open_dataset(args.data, resolution, xflip=args.xflip)


def _table(result: dict[str, Any]) -> str:
    """The numbers, a line each under the title of their metric; what is no number ends the title's line."""
    lines = []
    for name, numbers in result["metrics"].items():
        words = [f"{key} {value}" for key, value in numbers.items() if isinstance(value, (str, int))]
        lines.append(f"{METRICS[name].title} ({', '.join(words)})")
        for key, value in numbers.items():
            if isinstance(value, float):
                lines.append(f"  {key.replace('_', ' '):<{LABEL}}{value:>12.4f}")
            elif isinstance(value, dict):
                lines += [f"  {f'{key}: {inner}':<{LABEL}}{number:>12.4f}" for inner, number in value.items()]
    for speed in result["throughput"]:
        memory = "" if speed["peak_mib"] is None else f", peak {speed['peak_mib']:.0f} MiB"
        lines.append(
            f"{speed['resolution']} pixels, {speed['batch']} at a time on {speed['device']}: "
            f"{speed['images_per_second']:.2f} images/s{memory}"
        )
    return "\n".join(lines)


def _without_nan(value: Any) -> Any:
    """JSON knows no nan: null, where there is no number."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
