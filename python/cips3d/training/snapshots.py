"""What a person looks at while a run goes on: one picture of the same heads seen in several ways, and a short video.

The last columns of the picture are a test by eye: where a field has collapsed into mirror symmetry the picture flips as
the camera passes the middle, so that a head from one side and its mirrored view from the other side are the same
picture (paper section 3.4). Of a true field they are two: hair and light are not symmetric.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cips3d.data import image_grid, to_uint8
from cips3d.render.trajectories import camera_at
from cips3d.training.trained import TrainedModel

SEED = 0  # the same codes every time, so that successive pictures show the same heads
SPREADS = 1.5  # yaw and pitch go so many spreads of the training poses to either side
PSI = 0.7  # of the truncated heads
COLUMNS = 3  # of a block
SMALLEST_TILE = 96  # pixels; smaller heads are shown larger, pixel by pixel
LARGEST_TILE = 256  # pixels; the INR renders any side, and four heads at 1024 would be a picture of 63 megapixels
MARGIN, TITLE_HEIGHT, FONT_SIZE = 8, 20, 13  # pixels
VIDEO_HEADS, VIDEO_FRAMES, VIDEO_FPS = 4, 24, 12
VIDEO_TILE = 128  # largest side of a head in the video, pixels


class Block(NamedTuple):
    """A titled part of the picture: images [heads,COLUMNS,3,S,S]."""

    title: str
    images: Tensor


def overview(raw: TrainedModel, averaged: TrainedModel, heads: int) -> Image.Image:
    """One head a row, in blocks side by side: averaged and raw weights, truncated, from below and above, mirror test.

    `averaged` recomputes its mean styles, which its moving weights leave behind.
    """
    side, yaws = averaged.side_up_to(LARGEST_TILE), averaged.yaws(COLUMNS, SPREADS)
    pitch = SPREADS * averaged.camera.pitch_std

    def turned(model: TrainedModel, psi: float = 1.0) -> Tensor:
        return model.turned(model.styles(heads, SEED, psi), yaws, side).unflatten(0, (heads, COLUMNS))

    averaged.generator.update_mean_styles()
    seen = turned(averaged)
    w_shape, w_appearance = (w.repeat_interleave(2, 0) for w in averaged.styles(heads, SEED))
    nods = averaged.camera_at(torch.zeros(2 * heads), torch.tensor([-pitch, pitch]).repeat(heads))
    tilted = averaged.style_views(w_shape, w_appearance, nods, resolution=side)["inr"]
    above, below = tilted.unflatten(0, (heads, 2)).unbind(1)
    left, ahead, right = seen.unbind(1)
    turn, nod = _degrees(math.degrees(float(yaws[-1]))), _degrees(math.degrees(pitch))
    return _joined(
        [
            Block(f"EMA, yaw -{turn}, 0, +{turn}", seen),
            Block("raw weights, same yaws", turned(raw)),
            Block(f"EMA, psi {PSI}, same yaws", turned(averaged, PSI)),
            Block(f"EMA, pitch -{nod} (from above), 0, +{nod}", torch.stack([above, ahead, below], 1)),
            Block(f"mirror test: yaw +{turn}, -{turn}, -{turn} mirrored", torch.stack([right, left, left.flip(-1)], 1)),
        ]
    )


def turning_heads(model: TrainedModel, heads: int) -> Iterator[Tensor]:
    """Frames [3,H,heads*H] in [-1,1] of up to VIDEO_HEADS heads side by side, turning from side to side and back."""
    heads, side = min(heads, VIDEO_HEADS), model.side_up_to(VIDEO_TILE)
    styles, swing, zoom = model.styles(heads, SEED), model.swing(SPREADS, 0.0), _zoom(side)
    for frame in range(VIDEO_FRAMES):
        camera = camera_at("yaw", swing, frame, VIDEO_FRAMES)[torch.zeros(heads, dtype=torch.long)]
        row = torch.cat(list(model.style_views(*styles, camera, resolution=side)["inr"]), -1)
        yield row.repeat_interleave(zoom, -2).repeat_interleave(zoom, -1)


def _joined(blocks: list[Block]) -> Image.Image:
    """The blocks from left to right, each under its title, on white."""
    grids = [image_grid(to_uint8(block.images.flatten(0, 1)), COLUMNS) for block in blocks]
    zoom = _zoom(blocks[0].images.shape[-1])
    width, height = zoom * grids[0].width, zoom * grids[0].height
    picture = Image.new("RGB", (len(blocks) * (width + MARGIN) + MARGIN, height + TITLE_HEIGHT + 2 * MARGIN), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(FONT_SIZE)
    for number, (block, grid) in enumerate(zip(blocks, grids, strict=True)):
        left = MARGIN + number * (width + MARGIN)
        pen.text((left, MARGIN), block.title, fill="black", font=font)
        picture.paste(grid.resize((width, height), Image.Resampling.NEAREST), (left, MARGIN + TITLE_HEIGHT))
    return picture


def _zoom(side: int) -> int:
    return max(1, math.ceil(SMALLEST_TILE / side))


def _degrees(angle: float) -> str:
    return f"{angle:.0f}\N{DEGREE SIGN}"
