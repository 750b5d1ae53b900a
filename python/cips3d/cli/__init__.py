"""The `cips3d` command, one file a subcommand."""

from cips3d.cli.main import main

__all__ = ["main"]
