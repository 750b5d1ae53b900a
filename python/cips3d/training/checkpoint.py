"""Checkpoints that are whole or absent: written beside their place, flushed to disk, then renamed over the old one."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

FORMAT = "cips3d-training-1"
LATEST = Path("checkpoints") / "latest.pt"  # in a run folder


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read or written; the message says which, why, and the way out."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain Python values in dicts and lists) to `path` atomically.

    An interrupted or failed write leaves the file that was at `path` before untouched. Raises CheckpointError.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _flush_folder(path.parent)
    # torch.save turns a full disk into a RuntimeError of its zip writer.
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(
            f"cannot write the checkpoint {path}: {error}; free some space or choose another --run-dir"
        ) from error


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, tensors on `device`, without running any code from the file.

    Raises CheckpointError if the file is missing, damaged, or something else.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}; train first, or name another run folder") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        reason = str(error).split("\n")[0]
        raise CheckpointError(
            f"the checkpoint {path} is damaged or not a checkpoint ({reason}); "
            "restore it from a copy, or delete it to start over"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a training checkpoint of this version (wanted format {FORMAT})")
    return state


def _flush_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
