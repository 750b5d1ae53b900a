"""From what a user names to a data set: `synthetic-heads`, `toon-heads`, a folder, a zip, or shards."""

import difflib
from pathlib import Path

from cips3d.data.base import ImageDataset, OnCorrupt
from cips3d.data.photographs import ImageFolder, StyleGANZip
from cips3d.data.synthetic import PROCEDURAL, SyntheticHeads
from cips3d.data.tar_shards import WebShards, are_shards

NEARLY = 0.6  # similarity from which a name that is no path counts as a misspelt data set


def open_dataset(
    spec: str | Path,
    resolution: int,
    *,
    xflip: bool = False,
    size: int = 10_000,
    seed: int = 0,
    cache_dir: str | Path | None = None,
    progress: bool = True,
    on_corrupt: OnCorrupt = "stop",
) -> ImageDataset:
    """`spec`: "synthetic-heads" or "toon-heads" (size, seed, cache_dir, progress apply), a folder or a .zip of images,
    or shards: a folder of .tar files, one .tar, `shards-{0000..0012}.tar`, or URLs written so.

    Items are uint8 [3, resolution, resolution]; xflip doubles the set by mirroring. A picture that cannot be decoded
    stops or, with on_corrupt="skip", is replaced (`ImageDataset`). ValueError tells what is wrong.
    """
    if str(spec) in PROCEDURAL:
        return SyntheticHeads(resolution, size, seed, cache_dir, xflip, progress, str(spec))
    if are_shards(str(spec)):
        return WebShards(spec, resolution, xflip, on_corrupt)
    path = Path(spec).expanduser()
    if path.is_dir():
        return ImageFolder(path, resolution, xflip, on_corrupt)
    if path.is_file() and path.suffix.lower() == ".zip":
        return StyleGANZip(path, resolution, xflip, on_corrupt)
    known = ", ".join(f'"{name}"' for name in PROCEDURAL)
    wanted = f"wanted {known}, a folder of images, a .zip of images, or shards (.tar, {{000..123}}.tar, URLs)"
    if path.exists():
        raise ValueError(f"data: {path} is a file but neither .zip nor .tar; {wanted}")
    near = difflib.get_close_matches(str(spec), PROCEDURAL, 1, NEARLY)
    hint = f' Did you mean "{near[0]}"?' if near else ""
    raise ValueError(f"data: {str(spec)!r} does not exist; {wanted}.{hint}")
