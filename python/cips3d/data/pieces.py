"""Large files read by the piece: on this machine, or on a web server that gives out ranges of bytes."""

import hashlib
import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import urllib3

from cips3d.data.synthetic import default_cache_dir

Result = TypeVar("Result")

TIMEOUT = urllib3.Timeout(connect=10, read=60)  # seconds
REDIRECTS = urllib3.Retry(connect=0, read=0, other=0, redirect=5)  # the waiting between attempts is below
WAITS = (0.5, 1, 2, 4, 8)  # seconds between the attempts at a request
BUSY = (408, 429, 500, 502, 503, 504)  # answers that another attempt may change
CONNECTIONS = 8  # kept open to a server, for as many threads
COPY_BYTES = 2**20  # of a copy, at a time


@dataclass(frozen=True)
class LocalFile:
    path: Path
    size: int  # bytes

    def __str__(self) -> str:
        return str(self.path)

    def read(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop), fewer where the file ends before."""
        with open(self.path, "rb") as file:  # opened anew each time: no process shares a position, no number is used up
            file.seek(start)
            return file.read(stop - start)


@dataclass(frozen=True)
class RemoteFile:
    url: str
    size: int  # bytes

    def __str__(self) -> str:
        return self.url

    def read(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop), fewer where the file ends before. OSError after several attempts, or if it changed."""
        stop = min(stop, self.size)
        if start >= stop:
            return b""
        data, size = _attempts(self.url, lambda: _get_range(self.url, start, stop))
        if size != self.size:
            raise OSError(f"{self.url}: had {self.size} bytes and now has {size}; start again to read the new file")
        return data


def open_pieces(where: str) -> LocalFile | RemoteFile:
    """A local path, or an http(s) URL. A server that knows no ranges is copied from once, into the cache folder."""
    if not where.startswith(("http://", "https://")):
        path = Path(where).expanduser()
        return LocalFile(path, path.stat().st_size)
    try:
        return RemoteFile(where, _attempts(where, lambda: _get_range(where, 0, 1))[1])
    except _NoRanges:
        path = _attempts(where, lambda: _copy(where))
        return LocalFile(path, path.stat().st_size)


class Seekable(io.RawIOBase):
    """What the standard library's readers want of a file."""

    def __init__(self, file: LocalFile | RemoteFile, largest: int) -> None:
        self.file, self.largest, self.position = file, largest, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.file.size}[whence]
        return self.position

    def readinto(self, buffer) -> int:
        if len(buffer) > self.largest:
            raise ValueError(f"{self.file}: refused, a header of {len(buffer)} bytes")
        data = self.file.read(self.position, self.position + len(buffer))
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)


class _NoRanges(Exception):
    """The server answers a request for a range with the whole file."""


class _Busy(urllib3.exceptions.HTTPError):
    pass


@cache
def _pool(process: int) -> urllib3.PoolManager:
    """Kept connections, of one process: a forked worker must not share its parent's."""
    return urllib3.PoolManager(maxsize=CONNECTIONS, timeout=TIMEOUT, retries=REDIRECTS)


def _attempts(url: str, request: Callable[[], Result]) -> Result:
    """The result of `request()`, tried again while the network or the server is to blame."""
    for wait in (*WAITS, None):
        try:
            return request()
        except urllib3.exceptions.HTTPError as error:
            if wait is None:
                raise OSError(f"{url}: cannot be read ({error}); tried {len(WAITS) + 1} times") from error
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def _answer(url: str, **headers: str) -> Iterator[urllib3.BaseHTTPResponse]:
    headers["Accept-Encoding"] = "identity"
    answer = _pool(os.getpid()).request("GET", url, headers=headers, preload_content=False)
    try:
        if answer.status in BUSY:
            raise _Busy(f"the server answered {answer.status} {answer.reason}")
        if answer.status not in (200, 206):
            raise OSError(f"{url}: the server answered {answer.status} {answer.reason}")
        yield answer
    except BaseException:
        answer.close()  # what is left of the answer must not be taken for the next one
        raise
    answer.release_conn()


def _get_range(url: str, start: int, stop: int) -> tuple[bytes, int]:
    """Bytes [start, stop) and the size of the whole file."""
    with _answer(url, Range=f"bytes={start}-{stop - 1}") as answer:
        if answer.status == 200:
            raise _NoRanges
        data = answer.read(stop - start)
        _, _, size = answer.headers.get("Content-Range", "").partition("/")
        if len(data) != stop - start or not size.isdigit():
            raise _Busy(f"{len(data)} bytes of {stop - start} came, Content-Range {size!r}")
        return data, int(size)


def _copy(url: str) -> Path:
    """The whole file in the cache folder, taken from there if it is the same by size and time stamp."""
    with _answer(url) as answer:
        version = [url, *(answer.headers.get(name, "") for name in ("Content-Length", "ETag", "Last-Modified"))]
        folder = default_cache_dir() / "shards"
        path = folder / f"{hashlib.sha256(repr(version).encode()).hexdigest()[:32]}.tar"
        if path.exists():
            answer.close()
            return path
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            with open(partial, "wb") as file:
                for chunk in answer.stream(COPY_BYTES):  # an answer that ends early raises
                    file.write(chunk)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    return path
