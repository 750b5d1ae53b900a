"""DiffAugment (Zhao et al. 2020, arXiv 2006.10738) with explicit draws: colour, translation and cut-out."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

MAX_SHIFT_SHARE = 1 / 8  # translation up to this share of the side
CUTOUT_SHARE = 0.2  # side of the cut-out square; the released CIPS-3D setting (DiffAugment's own default is 0.5)


@dataclass(frozen=True)
class AugmentDraws:
    """The random numbers of one call, each [B].

    `brightness`, `saturation`, `contrast` are uniform in [0,1); `tx` (rows) and `ty` (columns) are shifts in pixels;
    `cx` (row) and `cy` (column) are the centre of the cut-out square. The last four hold whole numbers.
    """

    brightness: Tensor
    saturation: Tensor
    contrast: Tensor
    tx: Tensor
    ty: Tensor
    cx: Tensor
    cy: Tensor

    @classmethod
    def sample(cls, batch: int, size: int, generator: torch.Generator) -> AugmentDraws:
        """Independent draws for `batch` images of side `size` pixels, on the generator's device."""
        shift = _round(size * MAX_SHIFT_SHARE)
        centre_end = size + (1 - _round(size * CUTOUT_SHARE) % 2)

        def uniform() -> Tensor:
            return torch.rand(batch, generator=generator, device=generator.device)

        def whole(low: int, end: int) -> Tensor:
            return torch.randint(low, end, (batch,), generator=generator, device=generator.device)

        return cls(
            brightness=uniform(),
            saturation=uniform(),
            contrast=uniform(),
            tx=whole(-shift, shift + 1),
            ty=whole(-shift, shift + 1),
            cx=whole(0, centre_end),
            cy=whole(0, centre_end),
        )

    def __getitem__(self, images: Tensor) -> AugmentDraws:
        """The draws of the chosen images (indices)."""
        return AugmentDraws(**{field.name: getattr(self, field.name)[images] for field in fields(self)})


def diff_augment(images: Tensor, draws: AugmentDraws) -> Tensor:
    """Augment images [B,C,S,S]: brightness, saturation, contrast, translation, cut-out, in this order."""
    images = _colour(images, draws)
    images = _translate(images, draws.tx, draws.ty)
    return _cut_out(images, draws.cx, draws.cy)


def _round(value: float) -> int:
    return int(value + 0.5)


def _colour(images: Tensor, draws: AugmentDraws) -> Tensor:
    def factor(draw: Tensor) -> Tensor:
        return draw.to(images.dtype).view(-1, 1, 1, 1)

    images = images + (factor(draws.brightness) - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = (images - grey) * (2.0 * factor(draws.saturation)) + grey
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * (factor(draws.contrast) + 0.5) + mean


def _translate(images: Tensor, tx: Tensor, ty: Tensor) -> Tensor:
    """Output row r reads input row r + tx and column c reads c + ty; what lies outside is zero."""
    size = images.shape[-1]
    position = torch.arange(size, device=images.device)
    for axis, shift in ((2, tx), (3, ty)):
        source = position + shift.long().view(-1, 1)  # [B,S]
        shape = [len(images), 1, 1, 1]
        shape[axis] = size
        inside = ((source >= 0) & (source < size)).view(shape)
        index = source.clamp(0, size - 1).view(shape).expand_as(images)
        images = images.gather(axis, index) * inside
    return images


def _cut_out(images: Tensor, cx: Tensor, cy: Tensor) -> Tensor:
    """Set a square of side round(0.2 S) around (row cx, column cy) to zero; its part outside the image is ignored."""
    size = images.shape[-1]
    side = _round(size * CUTOUT_SHARE)
    position = torch.arange(size, device=images.device)

    def covered(centre: Tensor) -> Tensor:
        first = centre.long().view(-1, 1) - side // 2
        return (position >= first) & (position < first + side)  # [B,S]

    hole = covered(cx)[:, None, :, None] & covered(cy)[:, None, None, :]
    return images * ~hole
