"""WebDataset shards: tars of images, on this machine or streamed from a web server.

The tars' headers are read once, when the set is opened; after that each picture is read where it lies, a remote one by
a request for its range of bytes. So shards are shuffled as exactly as a folder, in the same order wherever they lie,
and a run goes on, splits over ranks and decodes in workers as with any other set. The `webdataset` library cannot do
that: it shuffles within a buffer, its order depends on the number of workers and cannot be taken up in the middle, its
default decoders unpickle, and it opens `pipe:` addresses with a shell.
"""

import io
import json
import math
import re
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm import tqdm

from cips3d.data.images import CorruptImageError
from cips3d.data.photographs import MAX_FILE_BYTES, Label, Photographs, check_entry, is_image, is_label
from cips3d.data.pieces import LocalFile, RemoteFile, Seekable, open_pieces

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
ALLOWED_SHARDS = range(1, 100_001)  # a larger number is a typing error
READERS = 8  # shards whose headers are read at the same time: a server takes a request for each entry
MANY = 16  # from so many shards on a bar shows how far that is


def are_shards(source: str) -> bool:
    """Whether `source` names shards: a URL, a range in braces, a .tar, or a folder that holds some."""
    if source.startswith(("http://", "https://")) or RANGE.search(source) or source.lower().endswith(".tar"):
        return True
    return Path(source).expanduser().is_dir() and any(Path(source).expanduser().glob("*.tar"))


def expand(source: str) -> list[str]:
    """`a-{000..012}.tar` -> a-000.tar, ..., a-012.tar; several ranges multiply; a folder -> its .tar files, sorted."""
    if Path(source).expanduser().is_dir():
        folder = Path(source).expanduser()
        loose = [file.name for file in folder.iterdir() if is_image(file.name)]
        if loose:
            raise ValueError(f"{folder}: holds shards and images ({loose[0]}, ...); keep one kind in a folder")
        return sorted(map(str, folder.glob("*.tar")))
    text, *ranges = RANGE.split(source)  # then first, last, text; first, last, text; ...
    if math.prod(max(0, int(last) - int(first) + 1) for first, last in RANGE.findall(source)) not in ALLOWED_SHARDS:
        raise ValueError(f"data: {source!r}: ranges must grow and name at most {ALLOWED_SHARDS[-1]} shards")
    shards = [text]
    for first, last, text in zip(ranges[::3], ranges[1::3], ranges[2::3], strict=True):
        numbers = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
        shards = [shard + number + text for shard in shards for number in numbers]
    return shards


class Entry(NamedTuple):
    """An image in a shard: its bytes are [start, stop) of the file; those of its .json entry, if any, `labels`."""

    shard: LocalFile | RemoteFile
    name: str
    start: int
    stop: int
    labels: tuple[int, int] | None


class WebShards(Photographs):
    """The image entries of tars, shard by shard as `expand` orders them, within a shard as they lie."""

    def _list(self) -> list[str]:
        shards = expand(str(self.source))
        with ThreadPoolExecutor(READERS) as pool:
            indexed = pool.map(_index, shards)
            bar = tqdm(indexed, "headers of shards", len(shards), unit="shard", disable=len(shards) < MANY)
            try:
                self._entries = [entry for entries in bar for entry in entries]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return [entry.name for entry in self._entries]

    def where(self, index: int) -> str:
        return f"{self._entries[index].shard}: {self.names[index]}"

    def _read(self, index: int) -> bytes:
        entry = self._entries[index]
        data = entry.shard.read(entry.start, entry.stop)
        if len(data) < entry.stop - entry.start:
            raise CorruptImageError(f"{self.where(index)}: the shard ends within the image; fetch or write it again")
        return data

    def label(self, index: int) -> Label | None:
        """`label` of the entry of the same name that ends in .json, if it has one."""
        entry = self._entries[index]
        if entry.labels is None:
            return None
        try:
            content = json.loads(entry.shard.read(*entry.labels))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self.where(index)}: its .json is damaged ({error}); correct or remove it") from error
        label = content.get("label") if isinstance(content, dict) else None
        return label if is_label(label) else None


def _index(where: str) -> list[Entry]:
    """The images of a shard. ValueError names a tar that is damaged, cut short or not honest."""
    try:
        shard = open_pieces(where)
    except FileNotFoundError as error:
        raise ValueError(f"data: {where} does not exist") from error
    stream = io.BufferedReader(Seekable(shard, MAX_FILE_BYTES))
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            members, end = list(_members(archive, shard)), archive.offset
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(
            f"{shard}: not a readable tar ({error}); unpack a compressed one, fetch a damaged one again"
        ) from error
    if shard.read(end, end + tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # where tarfile takes damage for the end
        raise ValueError(
            f"{shard}: the tar is damaged or cut short at byte {end}, after {len(members)} entries; fetch it again"
        )
    places = {member.name: (member.offset_data, member.offset_data + member.size) for member in members}
    return [
        Entry(shard, name, *place, labels=places.get(str(PurePosixPath(name).with_suffix(".json"))))
        for name, place in places.items()
        if is_image(name)
    ]


def _members(archive: tarfile.TarFile, shard: LocalFile | RemoteFile) -> Iterator[tarfile.TarInfo]:
    for member in archive:
        check_entry(str(shard), member.name, member.size)
        if member.issparse() or not (member.isreg() or member.isdir()):
            raise ValueError(f"{shard}: refused, entry {member.name!r} is a link or a special file; write plain files")
        yield member
