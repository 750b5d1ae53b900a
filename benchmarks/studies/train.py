"""Train the study's runs, one after the other; the same command goes on where it stopped.

  python benchmarks/studies/train.py --out runs/study
  python benchmarks/studies/train.py --out runs/study --variants base no-aux --seeds 0 1 2

About four minutes a run on one core; two of these commands with different --seeds use two cores.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from variants import PRESET, VARIANTS

from cips3d.config.training import load_training
from cips3d.training.loop import train

SEEDS = (0, 1)


def run_folder(out: Path, variant: str, seed: int) -> Path:
    return out / f"{variant}-seed{seed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/study"), help="folder of the run folders")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, help="default: 0 1")
    args = parser.parse_args()
    for seed in args.seeds:
        for variant in args.variants:
            print(f"{variant}, seed {seed}", flush=True)
            config = load_training(PRESET, [*VARIANTS[variant], f"seed={seed}"])
            result = train(config, run_folder(args.out, variant, seed))
            if result.reason in signal.Signals.__members__:
                sys.exit(128 + signal.Signals[result.reason])


if __name__ == "__main__":
    main()
