"""Small sets of photographs, whole and damaged, as all tests of data make them."""

import io
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image


def png(seed, size=(12, 12)):
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def tar_of(path, entries):
    """A tar of {name: bytes}; a value of another kind is a ready tarfile.TarInfo without data."""
    with tarfile.open(path, "w") as archive:
        for name, data in entries.items():
            if isinstance(data, tarfile.TarInfo):
                archive.addfile(data)
                continue
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


class Quiet(SimpleHTTPRequestHandler):
    """Python's own server, which knows no ranges; `server.failures` requests are answered 503 first."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def do_GET(self):
        self.server.requests += 1
        if self.server.failures:
            self.server.failures -= 1
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.answer()

    def answer(self):
        super().do_GET()


class Ranges(Quiet):
    """With ranges, as any server of large files has them; cuts `server.cuts` answers short."""

    def answer(self):
        path = self.translate_path(self.path)
        try:
            data = Path(path).read_bytes()
        except OSError:
            self.send_error(404)
            return
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        piece = data[int(first) : int(last) + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(piece)))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.end_headers()
        if self.server.cuts and len(piece) > 1:
            self.server.cuts -= 1
            piece, self.close_connection = piece[: len(piece) // 2], True
        self.wfile.write(piece)


@pytest.fixture
def serve(monkeypatch):
    """serve(folder, ranges) -> a server on this machine: its `url`, counts of requests and of planned failures."""
    monkeypatch.setattr("cips3d.data.pieces.WAITS", (0, 0))
    servers = []

    def start(folder, ranges=True):
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges if ranges else Quiet, directory=str(folder)))
        server.daemon_threads, server.requests, server.failures, server.cuts = True, 0, 0, 0
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return server

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def make():
    return SimpleNamespace(png=png, tar_of=tar_of)


@pytest.fixture
def shards(tmp_path):
    """Two shards in a folder: pictures 0 to 4 with seeds equal to their numbers."""
    folder = tmp_path / "shards"
    folder.mkdir()
    tar_of(folder / "s-000.tar", {f"{i}.png": png(i) for i in range(3)} | {"1.json": b'{"label": 7}', "1.cls": b"7"})
    tar_of(folder / "s-001.tar", {f"deep/{i}.png": png(i) for i in (3, 4)})
    return folder
