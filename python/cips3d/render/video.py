"""Frames -> a video file, through imageio."""

from __future__ import annotations

from pathlib import Path

import imageio.v2 as imageio
from torch import Tensor

FORMATS = (".mp4", ".gif")
EVEN = 2  # the usual chroma subsampling of mp4 wants even sides


def check_format(path: Path) -> None:
    """Raises ValueError unless `write_video` can write a file of this name."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"write_video: the file must end in {' or '.join(FORMATS)}, got {path.name}")


def write_video(frames: Tensor, path: Path, fps: int) -> None:
    """frames [T,3,H,W] in [-1,1] -> path, an .mp4 or an endlessly repeating .gif, with fps frames a second.

    Raises ValueError for another suffix.
    """
    check_format(path)
    pixels = ((frames + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    if path.suffix.lower() == ".gif":
        imageio.mimwrite(path, list(pixels), format="GIF", duration=1000 / fps, loop=0)
        return
    height, width = (size // EVEN * EVEN for size in pixels.shape[1:3])
    imageio.mimwrite(path, list(pixels[:, :height, :width]), format="FFMPEG", fps=fps, macro_block_size=EVEN)
