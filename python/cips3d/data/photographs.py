"""Photographs: a folder of image files, or a zip in StyleGAN's format (image entries; dataset.json is ignored).

Both are treated as untrusted: nothing is extracted or executed, sizes are bounded before anything is decompressed, and
every error names the file. Pictures are decoded when asked for, so that a set of any size opens at once.
"""

import os
import zipfile
from abc import abstractmethod
from pathlib import Path, PurePosixPath, PureWindowsPath

from torch import Tensor

from cips3d.data.base import ImageDataset, OnCorrupt
from cips3d.data.images import CorruptImageError, decode_image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
MAX_FILE_BYTES = 256 * 2**20  # no sane training picture is larger


class Photographs(ImageDataset):
    """What folder and zip share: a sorted list of names, each decoded on demand."""

    def __init__(self, path: str | Path, resolution: int, xflip: bool = False, on_corrupt: OnCorrupt = "stop") -> None:
        super().__init__(resolution, xflip, on_corrupt)
        self.path = Path(path)
        self._names = self._list()
        if not self._names:
            raise ValueError(f"{self.path}: no images found; wanted files ending in {', '.join(SUFFIXES)}")

    @abstractmethod
    def _list(self) -> list[str]:
        """The names of all pictures, sorted."""

    @abstractmethod
    def _read(self, name: str) -> bytes:
        """The encoded picture of this name."""

    @property
    def originals(self) -> int:
        return len(self._names)

    def original(self, index: int) -> Tensor:
        return self._decode(index, self.resolution)

    def native(self, index: int) -> Tensor:
        """Picture `index` uint8 [3,R,R] as a centred square in its own resolution."""
        return self._decode(index, None)

    def _decode(self, index: int, resolution: int | None) -> Tensor:
        name = self._names[index]
        return decode_image(self._read(name), f"{self.path}: {name}", resolution)


class ImageFolder(Photographs):
    """All image files below `path`, sorted by name; sub-folders are searched, linked folders are not followed."""

    def _list(self) -> list[str]:
        if not self.path.is_dir():
            raise ValueError(f"{self.path}: not a folder")
        found = (Path(folder, name) for folder, _, names in os.walk(self.path) for name in names)
        return sorted(str(file.relative_to(self.path)) for file in found if file.suffix.lower() in SUFFIXES)

    def _read(self, name: str) -> bytes:
        file = self.path / name
        if not file.is_file():
            raise CorruptImageError(f"{file}: not a file that can be read (a link to nothing, or a pipe?)")
        size = file.stat().st_size
        if size > MAX_FILE_BYTES:
            raise CorruptImageError(f"{file}: refused, {size} bytes are more than {MAX_FILE_BYTES}")
        return file.read_bytes()


def _check_entry(path: Path, entry: zipfile.ZipInfo) -> None:
    """Refuse entries that no honest archive of pictures has."""
    name, windows = PurePosixPath(entry.filename), PureWindowsPath(entry.filename)
    if name.is_absolute() or windows.anchor or ".." in windows.parts:
        raise ValueError(f"{path}: refused, entry {entry.filename!r} points outside the archive")
    if entry.file_size > MAX_FILE_BYTES:
        raise ValueError(
            f"{path}: refused, entry {entry.filename!r} unpacks to {entry.file_size} bytes, "
            f"more than {MAX_FILE_BYTES} (a decompression bomb?)"
        )
    if entry.flag_bits & 1:
        raise ValueError(f"{path}: entry {entry.filename!r} is encrypted; write the zip without a password")


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
            _check_entry(self.path, entry)
        return sorted(entry.filename for entry in entries if entry.filename.lower().endswith(SUFFIXES))

    def _read(self, name: str) -> bytes:
        try:
            with self._opened().open(name) as stream:
                return stream.read(MAX_FILE_BYTES)
        except Exception as error:  # zlib, CRC, truncated archive: all mean a damaged entry
            raise CorruptImageError(
                f"{self.path}: {name}: the entry is damaged ({error}); write the zip again"
            ) from error

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_archive": None}
