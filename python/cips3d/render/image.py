"""Last stage: from rays to images, in chunks without gradient and with gradients for a part of the rays only."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Pixels(NamedTuple):
    """rgb and aux_rgb [B,R,3], depth [B,R], weights [B,R,M] of some rays."""

    rgb: Tensor
    aux_rgb: Tensor
    depth: Tensor
    weights: Tensor


class RenderOutput(NamedTuple):
    """image and aux_image [B,3,H,W] in [-1,1], depth [B,H,W] in world units, weights [B,H*W,M] by increasing depth."""

    image: Tensor
    aux_image: Tensor
    depth: Tensor
    weights: Tensor


PixelFunction = Callable[["slice | Tensor"], Pixels]


def all_pixels(pixels: Callable[[slice], tuple[Tensor, ...]], rays: int, ray_chunk: int | None) -> tuple[Tensor, ...]:
    """The fields [B,R,*] of all rays: in one pass with gradients, or, with `ray_chunk`, that many at a time without."""
    if ray_chunk is None:
        return pixels(slice(0, rays))
    with torch.no_grad():
        first = pixels(slice(0, ray_chunk))
        # Filled in place: a list of chunks and its concatenation would hold the picture twice.
        whole = tuple(field.new_empty(field.shape[0], rays, *field.shape[2:]) for field in first)
        _store(whole, 0, first)
        for start in range(ray_chunk, rays, ray_chunk):
            _store(whole, start, pixels(slice(start, start + ray_chunk)))
    return whole


def partly_differentiable_pixels(
    pixels: PixelFunction, permutation: Tensor, grad_rays: int, ray_chunk: int | None
) -> Pixels:
    """The first `grad_rays` rays of the permutation [R] with gradient, the others without, in one image's order.

    Paper section 3.4, partial gradient backpropagation: memory of the graph grows with grad_rays, not with R.
    Gradients are those of the chosen rays, not rescaled. The others are rendered `ray_chunk` at a time (None: at once).
    """
    parts = [pixels(permutation[:grad_rays])]
    rest = permutation[grad_rays:]
    with torch.no_grad():
        parts += [pixels(chunk) for chunk in rest.split(ray_chunk or len(rest))]
    place = torch.argsort(permutation)
    return Pixels(*(field.index_select(1, place) for field in _join(parts)))


def to_images(pixels: Pixels, resolution: int) -> RenderOutput:
    """Pixels in image order to images of side `resolution`."""

    def image(rgb: Tensor) -> Tensor:
        return rgb.mT.unflatten(-1, (resolution, resolution)).contiguous()

    depth = pixels.depth.unflatten(-1, (resolution, resolution))
    return RenderOutput(image(pixels.rgb), image(pixels.aux_rgb), depth, pixels.weights)


def _join(parts: list[Pixels]) -> Pixels:
    return Pixels(*(torch.cat(fields, 1) for fields in zip(*parts, strict=True)))


def _store(whole: tuple[Tensor, ...], start: int, part: tuple[Tensor, ...]) -> None:
    """Writes a chunk of rays into its place."""
    for target, field in zip(whole, part, strict=True):
        target[:, start : start + field.shape[1]] = field
