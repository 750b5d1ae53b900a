"""The scripts of benchmarks/ import each other by name; so do their tests."""

import sys
from pathlib import Path

benchmarks = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path[:0] = [str(benchmarks), str(benchmarks / "studies")]
