"""Tell what is installed: torch, the compiled libraries, and which implementation each op takes on each device, and why
not another.

  cips3d info
"""

from __future__ import annotations

import argparse
import platform

import cips3d_ext


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments."""


def run(args: argparse.Namespace) -> None:
    print(f"cips3d-ext {cips3d_ext.__version__}, Python {platform.python_version()}, {platform.platform()}")
    print(cips3d_ext.status())
