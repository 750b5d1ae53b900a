"""Which sources are measured: the commit, or a digest of them where there is no git."""

from __future__ import annotations

import functools
import hashlib
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("csrc", "cips3d_ext", "python", "benchmarks")  # what a measurement depends on
SUFFIXES = (".py", ".h", ".cpp", ".cu", ".cuh")


def digest() -> str:
    """Of the contents of all sources, eight hexadecimal digits."""
    result = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SUFFIXES:
                result.update(path.read_bytes())
    return result.hexdigest()[:8]


@functools.cache
def commit() -> str:
    """The commit, marked where the sources differ from it."""
    try:
        words = ["git", "rev-parse", "--short", "HEAD"]
        name = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=True).stdout.strip()
        changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "*.py", "csrc"], cwd=ROOT).returncode
        return f"{name}, changed" if changed else name
    except (OSError, subprocess.CalledProcessError):
        return f"sources {digest()}"
