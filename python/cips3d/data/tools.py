"""What the command line does with data: make, convert and check sets, look into them."""

import sys
from collections import Counter
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple, cast

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from cips3d.data.base import ImageDataset, OnCorrupt
from cips3d.data.datasets import open_dataset
from cips3d.data.images import CorruptImageError, image_grid
from cips3d.data.photographs import Label, Photographs
from cips3d.data.synthetic import PROCEDURAL, SyntheticHeads
from cips3d.data.workers import in_order
from cips3d.data.writers import SHARD_SIZE, numbered, to_png, write_images, writing

LFW_FACES = 100  # the first hundred patches of lfw_subset are faces, the rest are not
PREVIEW = 64  # pictures that `inspect` opens and shows
PREVIEW_RESOLUTION = 64  # at which it shows synthetic heads, which have no resolution of their own


def make_synthetic(
    out: str | Path,
    n: int,
    resolution: int,
    seed: int = 0,
    cache_dir: str | Path | None = None,
    progress: bool = True,
    name: str = "synthetic-heads",
) -> int:
    """Render `n` heads of the set `name` (or take them from the cache) and write them as the set `out`; returns n."""
    heads = SyntheticHeads(resolution, n, seed, cache_dir, progress=progress, name=name)
    return write_images((heads[index] for index in range(n)), out)


def make_lfw(out: str | Path) -> int:
    """Write the 100 grey 25x25 faces of scikit-image's bundled lfw_subset as the set `out`; returns 100.

    They prove the path for photographs, not quality.
    """
    from skimage.data import lfw_subset  # here, since nothing else of this module needs so large a package

    faces = np.clip(lfw_subset()[:LFW_FACES] * 255, 0, 255).round().astype(np.uint8)
    return write_images(torch.from_numpy(faces)[:, None], out)


class Converted(NamedTuple):
    """A picture of the source as it goes into the target, or what is wrong with it."""

    png: bytes
    label: Label | None
    problem: str | None = None


def convert(
    source: str | Path,
    out: str | Path,
    resolution: int | None = None,
    *,
    shard_size: int = SHARD_SIZE,
    on_corrupt: OnCorrupt = "stop",
    workers: int = 0,
    progress: bool = True,
) -> tuple[int, list[str]]:
    """Write a folder, zip or shards of photographs as another kind of set (`writing`): PNG, centred squares.

    `resolution` None keeps each picture's own. Names are kept with their endings changed, or become numbers where two
    would be the same; labels go along. Corrupt pictures stop, or are named and left out. Returns the number written and
    what was said about those left out.
    """
    if str(source) in PROCEDURAL:
        raise ValueError(f"convert: {source} is rendered, not stored; write it with `cips3d data make`")
    dataset = cast(Photographs, open_dataset(source, 1 if resolution is None else resolution, progress=progress))
    problems: list[str] = []
    converted = in_order(partial(_convert, dataset, resolution), range(dataset.originals), workers)
    names = _png_names(dataset.names)
    with writing(out, shard_size) as writer:
        for name, item in tqdm(zip(names, converted, strict=True), "convert", len(names), disable=not progress):
            if item.problem is None:
                writer.add(name, item.png, item.label)
                continue
            if on_corrupt == "stop":
                raise CorruptImageError(f"{item.problem}; to leave such pictures out: --on-corrupt skip")
            tqdm.write(f"corrupt, left out: {item.problem}", file=sys.stderr)
            problems.append(item.problem)
        if not writer.count:
            raise ValueError(f"{source}: all {len(problems)} pictures are corrupt; nothing is written")
    return writer.count, problems


def _convert(dataset: Photographs, resolution: int | None, index: int) -> Converted:
    try:
        return Converted(to_png(dataset.decoded(index, resolution)), dataset.label(index))
    except CorruptImageError as error:
        return Converted(b"", None, str(error))


def _png_names(names: list[str]) -> list[str]:
    """The names with the ending .png; StyleGAN's numbers if two would then be the same, also to a careless system."""
    renamed = [str(PurePosixPath(name).with_suffix(".png")) for name in names]
    unique = max(Counter(map(str.lower, renamed)).values()) == 1
    return renamed if unique else [numbered(index) for index in range(len(names))]


def check(dataset: ImageDataset, workers: int = 0, progress: bool = True) -> list[str]:
    """Decode every picture; returns what is wrong with those that cannot be."""
    problems = in_order(partial(_problem, dataset), range(dataset.originals), workers)
    return [each for each in tqdm(problems, "check", dataset.originals, disable=not progress) if each is not None]


def _problem(dataset: ImageDataset, index: int) -> str | None:
    try:
        dataset.original(index)
    except CorruptImageError as error:
        return str(error)
    return None


def inspect(dataset: ImageDataset) -> tuple[dict, Image.Image]:
    """Open the first pictures -> (summary, grid picture)."""
    shown = torch.stack([dataset[index] for index in range(min(PREVIEW, len(dataset)))])
    poses = [pose for pose in map(dataset.pose, range(len(dataset))) if pose is not None]
    summary = {
        "kind": type(dataset).__name__,
        "images": len(dataset),
        "resolution": dataset.resolution,
        "opened": len(shown),
        "mean": [round(value, 1) for value in shown.float().mean((0, 2, 3)).tolist()],
        "std": [round(value, 1) for value in shown.float().std((0, 2, 3)).tolist()],
    }
    if poses:
        yaw, pitch = np.array(poses).T
        summary["yaw"] = f"{yaw.mean():.3f} +- {yaw.std():.3f} rad"
        summary["pitch"] = f"{pitch.mean():.3f} +- {pitch.std():.3f} rad"
    return summary, image_grid(shown)


def open_as_stored(spec: str | Path, resolution: int | None = None, **options) -> ImageDataset:
    """`open_dataset`, by default in the resolution of the set's first picture that is not corrupt."""
    dataset = open_dataset(spec, PREVIEW_RESOLUTION if resolution is None else resolution, **options)
    if resolution is None and isinstance(dataset, Photographs):
        dataset.resolution = _first_side(dataset)
    return dataset


def _first_side(dataset: Photographs) -> int:
    for index in range(dataset.originals):
        try:
            return dataset.decoded(index, None).shape[-1]
        except CorruptImageError:
            if dataset.on_corrupt == "stop":
                raise
    raise ValueError(f"{dataset.source}: all {dataset.originals} pictures are corrupt")
