"""Train a model's study, one run after the other; the same command goes on where it stopped.

  python benchmarks/studies/train.py --out runs/study
  python benchmarks/studies/train.py --out runs/study --variants base no-aux --seeds 0 1 2
  python benchmarks/studies/train.py --model volumegan --out runs/study

About four minutes a run on one core; two of these commands with different --seeds use two cores.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from subjects import run_folder
from variants import SUBJECTS

from cips3d.config.training import load_training
from cips3d.training.loop import train

SEEDS = (0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/study"), help="folder of the run folders")
    parser.add_argument("--model", choices=SUBJECTS, default="cips3d", help="whose study (default cips3d)")
    parser.add_argument("--variants", nargs="+", help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, help="default: 0 1")
    args = parser.parse_args()
    subject = SUBJECTS[args.model]
    variants = args.variants or list(subject.variants)
    if not set(variants) <= subject.variants.keys():
        parser.error(f"--variants of {args.model}: {', '.join(subject.variants)}")
    for seed in args.seeds:
        for variant in variants:
            print(f"{variant}, seed {seed}", flush=True)
            config = load_training(subject.preset, [*subject.variants[variant], f"seed={seed}"])
            result = train(config, run_folder(args.out, variant, seed))
            if result.reason in signal.Signals.__members__:
                sys.exit(128 + signal.Signals[result.reason])


if __name__ == "__main__":
    main()
