"""Photographs: a folder of image files, or a zip in StyleGAN's format (image entries and their labels in dataset.json).

All are treated as untrusted: nothing is extracted or executed, sizes are bounded before anything is decompressed, and
every error names the file. Pictures are decoded when asked for, so that a set of any size opens at once.
"""

import json
import math
import os
import zipfile
from abc import abstractmethod
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

import torch
from torch import Tensor

from cips3d.data.base import ImageDataset, OnCorrupt
from cips3d.data.images import CorruptImageError, decode_image
from cips3d.render.labels import LABEL

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
MAX_FILE_BYTES = 256 * 2**20  # no sane training picture is larger
LABELS = "dataset.json"
Label = int | float | list[int | float]


class Photographs(ImageDataset):
    """A list of encoded pictures, each decoded on demand. `names` are those inside the set, in its order."""

    def __init__(self, path: str | Path, resolution: int, xflip: bool = False, on_corrupt: OnCorrupt = "stop") -> None:
        super().__init__(resolution, xflip, on_corrupt)
        self.source = path
        self.names = self._list()
        if not self.names:
            raise ValueError(f"{path}: no images found; wanted files ending in {', '.join(SUFFIXES)}")

    @abstractmethod
    def _list(self) -> list[str]:
        """The names of all pictures."""

    @abstractmethod
    def _read(self, index: int) -> bytes:
        """The encoded picture of this number."""

    @abstractmethod
    def label(self, index: int) -> Label | None:
        """The class or the vector that the set gives to picture `index`."""

    def original_label(self, index: int) -> Tensor | None:
        label = self.label(index)
        return torch.tensor(label, dtype=torch.float32) if isinstance(label, list) and len(label) == LABEL else None

    @property
    def path(self) -> Path:
        return Path(self.source)

    @property
    def originals(self) -> int:
        return len(self.names)

    def where(self, index: int) -> str:
        """What messages call picture `index`."""
        return f"{self.source}: {self.names[index]}"

    def original(self, index: int) -> Tensor:
        return self.decoded(index, self.resolution)

    def decoded(self, index: int, resolution: int | None) -> Tensor:
        """Picture `index` uint8 [3,R,R] as a centred square, with resolution None in its own size."""
        return decode_image(self._read(index), self.where(index), resolution)


class ImageFolder(Photographs):
    """All image files below `path`, sorted by name; sub-folders are searched, linked folders are not followed."""

    def _list(self) -> list[str]:
        if not self.path.is_dir():
            raise ValueError(f"{self.path}: not a folder")
        found = (Path(folder, name) for folder, _, names in os.walk(self.path, onerror=_raise) for name in names)
        return sorted(str(file.relative_to(self.path)) for file in found if file.suffix.lower() in SUFFIXES)

    def _read(self, index: int) -> bytes:
        return _read_file(self.path / self.names[index])

    def label(self, index: int) -> Label | None:
        return self._labels.get(self.names[index])

    @cached_property
    def _labels(self) -> dict[str, Label]:
        file = self.path / LABELS
        return parse_labels(_read_file(file), str(file)) if file.exists() else {}


class StyleGANZip(Photographs):
    """The image entries of a zip, sorted by name."""

    _archive: zipfile.ZipFile | None = None
    _process = 0

    def _opened(self) -> zipfile.ZipFile:
        """One handle a process: a forked loader must not share its parent's file position."""
        if self._archive is None or self._process != os.getpid():
            try:
                self._archive, self._process = zipfile.ZipFile(self.path), os.getpid()
            except (OSError, zipfile.BadZipFile) as error:
                raise ValueError(f"{self.path}: not a readable zip ({error})") from error
        return self._archive

    def _list(self) -> list[str]:
        entries = [entry for entry in self._opened().infolist() if not entry.is_dir()]
        for entry in entries:
            check_entry(str(self.path), entry.filename, entry.file_size)
            if entry.flag_bits & 1:
                raise ValueError(
                    f"{self.path}: entry {entry.filename!r} is encrypted; write the zip without a password"
                )
        return sorted(entry.filename for entry in entries if is_image(entry.filename))

    def _read(self, index: int) -> bytes:
        return self._entry(self.names[index])

    def _entry(self, name: str) -> bytes:
        try:
            with self._opened().open(name) as stream:
                return stream.read(MAX_FILE_BYTES)
        except Exception as error:  # zlib, CRC, truncated archive: all mean a damaged entry
            raise CorruptImageError(
                f"{self.path}: {name}: the entry is damaged ({error}); write the zip again"
            ) from error

    def label(self, index: int) -> Label | None:
        return self._labels.get(self.names[index])

    @cached_property
    def _labels(self) -> dict[str, Label]:
        if LABELS not in self._opened().namelist():
            return {}
        return parse_labels(self._entry(LABELS), f"{self.path}: {LABELS}")

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_archive": None}


def is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def check_entry(archive: str, name: str, size: int) -> None:
    """Refuse (ValueError) entries that no honest archive of pictures has."""
    windows = PureWindowsPath(name)
    if PurePosixPath(name).is_absolute() or windows.anchor or ".." in windows.parts:
        raise ValueError(f"{archive}: refused, entry {name!r} points outside the archive")
    if size > MAX_FILE_BYTES:
        raise ValueError(
            f"{archive}: refused, entry {name!r} unpacks to {size} bytes, "
            f"more than {MAX_FILE_BYTES} (a decompression bomb?)"
        )


def parse_labels(data: bytes, name: str) -> dict[str, Label]:
    """StyleGAN's dataset.json, {"labels": null or [[name of the picture, label], ...]} -> labels by name."""
    try:
        rows = json.loads(data)["labels"] or []
        labels = {picture: label for picture, label in rows if isinstance(picture, str)}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(
            f'{name}: wanted {{"labels": [[name, label], ...]}} ({error}); correct or remove it'
        ) from error
    for picture, label in labels.items():
        if not is_label(label):
            raise ValueError(f"{name}: the label of {picture!r} must be a number or a list of numbers; correct it")
    return labels


def is_label(value: object) -> bool:
    numbers = value if isinstance(value, list) else [value]
    return all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)


def _raise(error: OSError) -> None:
    """For os.walk, which passes over folders that it cannot list."""
    raise error


def _read_file(file: Path) -> bytes:
    if not file.is_file():
        raise CorruptImageError(f"{file}: not a file that can be read (a link to nothing, or a pipe?)")
    size = file.stat().st_size
    if size > MAX_FILE_BYTES:
        raise CorruptImageError(f"{file}: refused, {size} bytes are more than {MAX_FILE_BYTES}")
    return file.read_bytes()
