"""Frames to a file or a folder, one at a time: a video takes no more memory than its frame (a GIF: than its pixels)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
from PIL import Image, PngImagePlugin
from torch import Tensor

from cips3d.files import replaced_whole, written_whole

FORMATS = (".mp4", ".gif", "")  # no suffix: a folder of PNGs
EVEN = 2  # the usual chroma subsampling of mp4 wants even sides


def check_format(path: Path) -> None:
    """Raises ValueError unless `write_video` can write a file or folder of this name."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(
            f"write_video: the name must end in .mp4 or .gif, or have no suffix for a folder of PNGs, got {path.name}"
        )


def write_video(frames: Iterable[Tensor], path: Path, fps: int, comment: str = "") -> None:
    """frames [3,H,W] in [-1,1], as they come -> path: an .mp4, an endlessly repeating .gif, or a folder of frame_*.png.

    `fps` frames a second, at least one frame; `comment` goes into the metadata. Missing folders are made, frames that
    the folder has are replaced. Raises ValueError for another suffix, OSError where nothing can be written.
    """
    check_format(path)
    pixels = (_pixels(frame) for frame in frames)
    if path.suffix.lower() == ".mp4":
        _write_mp4(pixels, path, fps, comment)
    elif path.suffix.lower() == ".gif":
        pictures = (Image.fromarray(frame) for frame in pixels)
        first = next(pictures)
        with written_whole(path) as file:
            first.save(file, "GIF", save_all=True, append_images=pictures, duration=1000 / fps, loop=0, comment=comment)
    else:
        path.mkdir(parents=True, exist_ok=True)
        for old in path.glob("frame_[0-9]*.png"):  # of a longer video, as a file would be overwritten
            old.unlink()
        for number, frame in enumerate(pixels):
            save_png(Image.fromarray(frame), path / f"frame_{number:04d}.png", comment)


def save_png(picture: Image.Image, path: Path, comment: str) -> None:
    """Writes `picture`, whole or not at all, with `comment` in its metadata; missing folders are made."""
    metadata = PngImagePlugin.PngInfo()
    metadata.add_text("Comment", comment)
    with written_whole(path) as file:
        picture.save(file, "PNG", pnginfo=metadata)


def _write_mp4(pixels: Iterator[np.ndarray], path: Path, fps: int, comment: str) -> None:
    first = next(pixels)
    height, width = (size // EVEN * EVEN for size in first.shape[:2])
    metadata = ["-metadata", f"comment={comment}"]
    with replaced_whole(path) as temporary:
        temporary.write_bytes(b"")  # fails where it cannot be written; ffmpeg would not tell
        writer = imageio.get_writer(temporary, format="FFMPEG", fps=fps, macro_block_size=EVEN, output_params=metadata)
        with closing(writer):  # its own `with` lets ffmpeg go on if a frame fails
            for frame in chain([first], pixels):
                writer.append_data(frame[:height, :width])
        if not temporary.stat().st_size:
            raise OSError(f"write_video: ffmpeg could not write {path}; its message is above")


def _pixels(frame: Tensor) -> np.ndarray:
    """uint8 [H,W,3]."""
    return ((frame + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
