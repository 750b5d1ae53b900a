"""Files that are whole or absent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replaced_whole(path: Path, apart: bool = False) -> Iterator[Path]:
    """Where to write within the block what lies at `path` after it, flushed to disk; the folder is made.

    Until then, and for good if the block fails or the process is killed, what was at `path` stays. What a kill left
    is overwritten the next time; `apart`: by this process alone, where several may write the same file and one wins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = f".{os.getpid()}.tmp" if apart else ".tmp"
    temporary = path.with_name(f"{path.stem}{mark}{path.suffix}")  # the suffix tells a writer of videos the format
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        flush_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def written_whole(path: Path, apart: bool = False) -> Iterator[BinaryIO]:
    """`replaced_whole`, as a file to write."""
    with replaced_whole(path, apart) as temporary, open(temporary, "wb") as file:
        yield file


def flush_folder(folder: Path) -> None:
    """Make the renames in it survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
