"""Rendering synthetic heads by the shard: written complete or not at all, by several processes where that pays."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, cast

import numpy as np

from cips3d.data.heads import render_indexed

SHARD = 50  # pictures: seconds of work, what an interruption can lose
SHARDS_PER_WORKER = 4  # starting a process takes as long as a few shards
SMALL = 32  # up to this resolution a pixel is wider than an iris and takes 3 x 3 samples instead of 2 x 2


def supersample(resolution: int) -> int:
    """Rays a pixel and axis that the data set's pictures are rendered with."""
    return 3 if resolution <= SMALL else 2


def shard_path(folder: Path, start: int) -> Path:
    """Where the shard of pictures start, start + 1, ... lies."""
    return folder / f"{start:08d}.npy"


def render_shard(seed: int, start: int, stop: int, resolution: int, look: str, folder: Path) -> None:
    """Write images uint8 [stop - start, 3, R, R] to shard_path(folder, start)."""
    rays = supersample(resolution)
    images = [render_indexed(seed, index, resolution, rays, look).image.numpy() for index in range(start, stop)]
    final = shard_path(folder, start)
    partial = final.with_suffix(f".{os.getpid()}.partial")
    with open(partial, "wb") as file:
        np.save(file, np.stack(images))
    os.replace(partial, final)


def render_shards(starts: list[int], size: int, seed: int, resolution: int, look: str, folder: Path) -> Iterator[int]:
    """Render the shards that begin at `starts` of a set of `size` pictures; yields each start when it is on disk."""
    workers = min(os.cpu_count() or 1, len(starts) // SHARDS_PER_WORKER)
    if workers < 2:
        for start in starts:
            render_shard(seed, start, min(start + SHARD, size), resolution, look, folder)
            yield start
        return
    waiting: SimpleQueue[int] = SimpleQueue()
    finished: SimpleQueue[int | Exception] = SimpleQueue()
    for start in starts:
        waiting.put(start)
    processes = [_start_worker(seed, resolution, look, folder) for _ in range(workers)]
    threads = [threading.Thread(target=_feed, args=(each, waiting, finished, size)) for each in processes]
    try:
        for thread in threads:
            thread.start()
        for _ in starts:
            result = finished.get()
            if isinstance(result, Exception):
                raise result
            yield result
    finally:
        for process, thread in zip(processes, threads, strict=True):
            process.terminate()
            process.wait()
            thread.join()
            _pipes(process)[0].close()
            _pipes(process)[1].close()


def _start_worker(seed: int, resolution: int, look: str, folder: Path) -> subprocess.Popen[str]:
    """A process of its own program, not a fork: safe beside threads, and callers need no __main__ guard."""
    package = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "cips3d.data.shard_worker", str(seed), str(resolution), look, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    """(stdin, stdout), which are there since _start_worker asked for pipes."""
    return cast(IO[str], process.stdin), cast(IO[str], process.stdout)


def _feed(process: subprocess.Popen[str], waiting: SimpleQueue, finished: SimpleQueue, size: int) -> None:
    """Hand one shard after the other to a worker and report each one's end."""
    to_worker, from_worker = _pipes(process)
    try:
        while True:
            start = waiting.get_nowait()
            to_worker.write(f"{start} {min(start + SHARD, size)}\n")
            to_worker.flush()
            if not from_worker.readline():
                raise RuntimeError(f"a render worker ended with status {process.wait()}; its own message is above")
            finished.put(start)
    except Empty:
        return
    except Exception as error:  # handed to the thread that waits, which raises it
        finished.put(error)
