"""Checkpoints that are whole or absent, and the one before the latest, should that one be damaged later on."""

from __future__ import annotations

import os
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

import cips3d_ext
from cips3d.files import written_whole

KIND, FORMAT = "cips3d-training-", 1  # together the entry "format"; the number grows when older versions cannot read on
LATEST = Path("checkpoints") / "latest.pt"  # in a run folder
PREVIOUS = "previous.pt"  # beside it


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read or written; the message says which, why, and the way out."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain Python values in dicts and lists) to `path` atomically.

    An interrupted or failed write leaves the file that was at `path` before untouched. The one before LATEST stays as
    PREVIOUS, where the file system has hard links. Raises CheckpointError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as file:
            torch.save({"format": f"{KIND}{FORMAT}", "version": cips3d_ext.__version__, **state}, file)
            if path.name == LATEST.name:
                _keep(path)
    # torch.save turns a full disk into a RuntimeError of its zip writer.
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"cannot write the checkpoint {path}: {error}; free some space or choose another --run-dir"
        ) from error


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, tensors on `device`, without running any code from the file.

    Raises CheckpointError if the file is missing, damaged, from a newer version, or something else.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}; train first, or name another run folder") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        reason = str(error).split("\n")[0]
        previous = path.with_name(PREVIOUS)
        way_out = f"go on from the one before it with `mv {previous} {path}`" if previous.exists() else "restore a copy"
        raise CheckpointError(
            f"the checkpoint {path} is damaged or not a checkpoint ({reason}); {way_out}, or delete it to start over"
        ) from error
    _check_format(state, path)
    return state


def _check_format(state: Any, path: Path) -> None:
    kind = state.get("format") if isinstance(state, dict) else None
    number = kind.removeprefix(KIND) if isinstance(kind, str) and kind.startswith(KIND) else ""
    if not number.isdecimal():
        raise CheckpointError(f"{path} is not a training checkpoint; wanted the latest.pt of a run folder")
    if int(number) != FORMAT:
        raise CheckpointError(
            f"{path} was written by version {state.get('version')} of cips3d-ext, in format {number}; this is "
            f"version {cips3d_ext.__version__}, which reads format {FORMAT}; install version {state.get('version')}"
        )


def _keep(path: Path) -> None:
    """Give the file at `path` the name PREVIOUS as well; at no moment is `path` without a file."""
    previous, link = path.with_name(PREVIOUS), path.with_name(PREVIOUS + ".tmp")
    with suppress(OSError):  # no file yet, or a file system without hard links
        link.unlink(missing_ok=True)
        os.link(path, link)
        os.replace(link, previous)
