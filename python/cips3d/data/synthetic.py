"""The data sets `synthetic-heads` and `toon-heads`: rendered once, kept as one memory-mapped array.

Rendering is cut into shards, each written to a temporary name and renamed, so that an interrupted run goes on where it
stopped; a file lock makes a second process wait for the first one's result instead of repeating it.
"""

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cips3d.data.base import ImageDataset
from cips3d.data.heads import FOV_DEG, HeadImage, render_indexed, sample_pose
from cips3d.data.shards import SHARD, render_shards, shard_path, supersample
from cips3d.render.labels import camera_labels
from cips3d.render.rays import Camera

PROCEDURAL = {"synthetic-heads": "natural", "toon-heads": "toon"}  # data sets and the look of their heads
HEADS_VERSION = 1  # part of the cache's name: raise it when the pictures change


def default_cache_dir() -> Path:
    """$XDG_CACHE_HOME/cips3d, or ~/.cache/cips3d."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cips3d"


class SyntheticHeads(ImageDataset):
    """`size` heads of the population `seed`, rendered to `cache_dir` at first use (64x64: about 20 a second a core).

    `name`, one of PROCEDURAL, decides the look alone: equal numbers are equal shapes in equal poses.
    """

    def __init__(
        self,
        resolution: int,
        size: int = 10_000,
        seed: int = 0,
        cache_dir: str | Path | None = None,
        xflip: bool = False,
        progress: bool = True,
        name: str = "synthetic-heads",
    ) -> None:
        super().__init__(resolution, xflip)
        if size < 1 or seed < 0:
            raise ValueError(f"{name}: size must be >= 1 and seed >= 0, got size {size}, seed {seed}")
        self.seed, self.name = seed, name
        folder = Path(cache_dir) if cache_dir is not None else default_cache_dir()
        self.path = folder / f"{name}-v{HEADS_VERSION}-r{resolution}-s{seed}-n{size}.npy"
        self._shape = (size, 3, resolution, resolution)
        if not self.path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(self.path.with_suffix(".lock")):
                if not self.path.exists():
                    self._build(progress)
        self._images = self._load()

    @property
    def originals(self) -> int:
        return self._shape[0]

    def original(self, index: int) -> Tensor:
        return torch.from_numpy(np.array(self._images[index]))

    def pose(self, index: int) -> tuple[float, float]:
        """(yaw, pitch), rad; a mirrored head is seen from the mirrored yaw pi - yaw."""
        pose = sample_pose(self.seed, index % self.originals)
        return (pose.yaw if index < self.originals else torch.pi - pose.yaw, pose.pitch)

    def original_label(self, index: int) -> Tensor:
        pose = sample_pose(self.seed, index)
        return camera_labels(Camera.from_angles(pose.yaw, pose.pitch, FOV_DEG), self.resolution)[0]

    def render(self, index: int, resolution: int | None = None) -> HeadImage:
        """Head `index` (not mirrored) rendered anew with depth, for evaluation; any resolution."""
        resolution = resolution or self.resolution
        return render_indexed(self.seed, index, resolution, supersample(resolution), PROCEDURAL[self.name])

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_images": None}

    def __setstate__(self, state: dict) -> None:
        """In another process: map the file again rather than carry its pictures over."""
        self.__dict__ = state
        self._images = self._load()

    def _load(self) -> np.ndarray:
        try:
            images = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.path}: the cached data set cannot be read ({error}); delete the file") from error
        if images.shape != self._shape or images.dtype != np.uint8:
            raise ValueError(
                f"{self.path}: wanted uint8 {self._shape}, found {images.dtype} {images.shape}; delete the file"
            )
        return images

    def _build(self, progress: bool) -> None:
        shards = self.path.with_suffix(".shards")
        shards.mkdir(exist_ok=True)
        size = self.originals
        names = {start: shard_path(shards, start) for start in range(0, size, SHARD)}
        missing = [start for start, name in names.items() if not name.exists()]
        bar = tqdm(total=size, initial=SHARD * (len(names) - len(missing)), desc=self.name, disable=not progress)
        with bar:
            for start in render_shards(missing, size, self.seed, self.resolution, PROCEDURAL[self.name], shards):
                bar.update(min(SHARD, size - start))
        partial = self.path.with_suffix(".partial")
        images = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=self._shape)
        for start, name in names.items():
            images[start : start + SHARD] = np.load(name, allow_pickle=False)
        images.flush()
        os.replace(partial, self.path)
        shutil.rmtree(shards, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive file lock; the operating system frees it even if the process is killed."""
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another process is rendering; waiting for it ({path})", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
