"""Sets of pictures as files: a folder, a StyleGAN-format zip or WebDataset shards, complete or not at all."""

import json
import os
import re
import shutil
import tarfile
import tempfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from cips3d.data.photographs import LABELS, Label

EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed time stamp, so that equal pictures give equal files
SHARD_SIZE = 1000  # pictures
NUMBER = re.compile(r"%0?\d*d")  # in the name of shards
ARCHIVES = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")  # an `out` that ends so is no folder


class Writer(ABC):
    """Takes PNG files one by one and writes a set of the kind that its class is named by into `folder`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / name
        self.count = 0
        self.labels: list[list] = []

    def add(self, name: str, png: bytes, label: Label | None = None) -> None:
        """`name` is the picture's path in the set."""
        if label is not None:
            self.labels.append([name, label])
        self.write(name, png, label)
        self.count += 1

    @abstractmethod
    def write(self, name: str, png: bytes, label: Label | None) -> None:
        """Write one picture."""

    @abstractmethod
    def close(self) -> None:
        """Write what belongs to the whole set, and let go of files."""

    def _labels_file(self) -> str:
        return json.dumps({"labels": self.labels or None})


class FolderWriter(Writer):
    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, name)
        self.path.mkdir()

    def write(self, name: str, png: bytes, label: Label | None) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png)

    def close(self) -> None:
        if self.labels:
            (self.path / LABELS).write_text(self._labels_file(), encoding="utf-8")


class ZipWriter(Writer):
    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, name)
        self.archive = zipfile.ZipFile(self.path, "w", zipfile.ZIP_STORED)

    def write(self, name: str, png: bytes, label: Label | None) -> None:
        self.archive.writestr(zipfile.ZipInfo(name, EPOCH), png)

    def close(self) -> None:
        self.archive.writestr(zipfile.ZipInfo(LABELS, EPOCH), self._labels_file())
        self.archive.close()


class ShardsWriter(Writer):
    """`name` holds the shard's number as %04d, or nothing where all pictures go into one tar."""

    def __init__(self, folder: Path, name: str, shard_size: int) -> None:
        super().__init__(folder, name)
        self.shard_size = shard_size
        self.archive: tarfile.TarFile | None = None

    def write(self, name: str, png: bytes, label: Label | None) -> None:
        numbered = NUMBER.search(self.path.name)
        if self.archive is None or (numbered and self.count % self.shard_size == 0):
            self.close()
            shard = self.path.name % (self.count // self.shard_size) if numbered else self.path.name
            self.archive = tarfile.TarFile(self.path.with_name(shard), "w")
        self._put(name, png)
        if label is not None:
            self._put(str(Path(name).with_suffix(".json")), json.dumps({"label": label}).encode())

    def _put(self, name: str, data: bytes) -> None:
        assert self.archive is not None
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(data), 0o644
        self.archive.addfile(entry, BytesIO(data))

    def close(self) -> None:
        if self.archive is not None:
            self.archive.close()


@contextmanager
def writing(out: str | Path, shard_size: int = SHARD_SIZE) -> Iterator[Writer]:
    """A writer of the set `out`: .zip a zip, .tar one shard, `a-%04d.tar` shards of `shard_size`, else a folder.

    All appears under its name when the block ends, and nothing if it fails. ValueError if something is there already.
    """
    out = Path(out)
    if out.suffix.lower() in ARCHIVES:
        raise ValueError(f"{out}: cannot write {out.suffix}; wanted a .zip, .tar, shards-%04d.tar or a folder")
    if shard_size < 1:
        raise ValueError(f"the shard size must be at least 1, got {shard_size}")
    if out.suffix.lower() == ".tar" and "%" in NUMBER.sub("", out.name, count=1):
        raise ValueError(f"{out}: wanted one number like %04d in the name of shards, and no other %")
    _refuse_existing(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(".partial", f".{out.name.replace('%', '')}.", out.parent))
    try:
        writer = _writer(staging, out, shard_size)
        try:
            yield writer
        finally:
            writer.close()
        for file in sorted(staging.iterdir()):
            os.replace(file, out.parent / file.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _writer(staging: Path, out: Path, shard_size: int) -> Writer:
    if out.suffix.lower() == ".tar":
        return ShardsWriter(staging, out.name, shard_size)
    return (ZipWriter if out.suffix.lower() == ".zip" else FolderWriter)(staging, out.name)


def _refuse_existing(out: Path) -> None:
    if out.suffix.lower() == ".tar" and out.parent.is_dir():
        before, *after = NUMBER.split(out.name)
        name = re.compile(re.escape(before) + "".join(rf"\d+{re.escape(part)}" for part in after))
        there = [file for file in out.parent.iterdir() if name.fullmatch(file.name)]
    elif out.is_dir():
        there = list(out.iterdir())
    else:
        there = [out] if out.exists() else []
    if there:
        raise ValueError(f"{min(there)} is there already and is not overwritten; remove it or choose another name")


def to_png(image: Tensor) -> bytes:
    """uint8 [3,H,W] or [1,H,W] -> a PNG file's bytes."""
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"to_png: image must be uint8 [1 or 3, H, W], got {image.dtype} {tuple(image.shape)}")
    pixels = image.permute(1, 2, 0).cpu().numpy()
    buffer = BytesIO()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(buffer, "PNG")
    return buffer.getvalue()


def numbered(index: int) -> str:
    """StyleGAN's name of picture `index`."""
    return f"{index // 1000:05d}/img{index:08d}.png"


def write_images(images: Iterable[Tensor], out: str | Path) -> int:
    """Write uint8 [3,H,W] or [1,H,W] pictures as the set `out` (`writing`), without labels; returns their number."""
    with writing(out) as writer:
        for index, image in enumerate(images):
            writer.add(numbered(index), to_png(image))
    return writer.count
