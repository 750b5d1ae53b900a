#!/usr/bin/env bash
# usage: benchmarks/gpu_report.sh OUTDIR [--dry] [--seconds N]
# Everything one needs from a GPU machine, in under nine minutes and at most 8 files; run it again to go on where it stopped.
# See benchmarks/README.md.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD:$PWD/python" PYTHONUNBUFFERED=1
exec "${PYTHON:-python3}" benchmarks/gpu_report.py "$@"
