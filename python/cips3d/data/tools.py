"""What the command line does with data: make sets, write StyleGAN-format zips, look into a set."""

import json
import os
import zipfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cips3d.data.datasets import open_dataset
from cips3d.data.images import image_grid
from cips3d.data.photographs import Photographs
from cips3d.data.synthetic import PROCEDURAL, SyntheticHeads

LFW_FACES = 100  # the first hundred patches of lfw_subset are faces, the rest are not
PREVIEW = 64  # pictures that `inspect` opens and shows
PREVIEW_RESOLUTION = 64  # at which it shows synthetic heads, which have no resolution of their own
EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed time stamp, so that equal pictures give equal files


def write_zip(images: Iterable[Tensor], out: str | Path) -> int:
    """Write uint8 [3,H,W] or [1,H,W] pictures as a StyleGAN-format zip (PNG, no labels), complete or not at all.

    Returns the number written.
    """
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    count = 0
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for image in images:
            if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] not in (1, 3):
                raise ValueError(
                    f"write_zip: image {count} must be uint8 [1 or 3, H, W], got {image.dtype} {tuple(image.shape)}"
                )
            pixels = image.permute(1, 2, 0).cpu().numpy()
            buffer = BytesIO()
            Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(buffer, "PNG")
            name = f"{count // 1000:05d}/img{count:08d}.png"
            archive.writestr(zipfile.ZipInfo(name, EPOCH), buffer.getvalue())
            count += 1
        archive.writestr(zipfile.ZipInfo("dataset.json", EPOCH), json.dumps({"labels": None}))
    os.replace(partial, out)
    return count


def make_synthetic(
    out: str | Path,
    n: int,
    resolution: int,
    seed: int = 0,
    cache_dir: str | Path | None = None,
    progress: bool = True,
    name: str = "synthetic-heads",
) -> int:
    """Render `n` heads of the set `name` (or take them from the cache) and write them to the zip `out`; returns n."""
    heads = SyntheticHeads(resolution, n, seed, cache_dir, progress=progress, name=name)
    return write_zip((heads[index] for index in range(n)), out)


def make_lfw_zip(out: str | Path) -> int:
    """Write the 100 grey 25x25 faces of scikit-image's bundled lfw_subset to the zip `out`; returns 100.

    They prove the path for photographs, not quality.
    """
    from skimage.data import lfw_subset  # here, since nothing else of this module needs so large a package

    faces = np.clip(lfw_subset()[:LFW_FACES] * 255, 0, 255).round().astype(np.uint8)
    return write_zip(torch.from_numpy(faces)[:, None], out)


def inspect(spec: str | Path, resolution: int | None = None, **options) -> tuple[dict, Image.Image]:
    """Open a data set and its first pictures -> (summary, grid picture). `options` go to open_dataset.

    resolution None shows photographs in the size of the first one.
    """
    if resolution is None and str(spec) not in PROCEDURAL:
        photographs = open_dataset(spec, 1)
        assert isinstance(photographs, Photographs)
        resolution = photographs.native(0).shape[-1]
    dataset = open_dataset(spec, resolution or PREVIEW_RESOLUTION, **options)
    shown = torch.stack([dataset[index] for index in range(min(PREVIEW, len(dataset)))])
    poses = [pose for pose in map(dataset.pose, range(len(dataset))) if pose is not None]
    summary = {
        "data": str(spec),
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
