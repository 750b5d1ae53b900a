"""Pictures in and out: network range and uint8, grids, and decoding of untrusted image files."""

import io
import math

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # decoded in-process; others (EPS, ...) would start external programs
MAX_PIXELS = 8192 * 8192  # larger pictures are refused before they are decompressed
SIXTEEN_TO_EIGHT_BITS = 257  # 65535 / 255
WHITE = (255, 255, 255, 255)


class CorruptImageError(ValueError):
    """A picture that cannot be decoded, or is refused; the message names its file."""


def to_float(images: Tensor) -> Tensor:
    """uint8 [...] -> float32 in [-1, 1], x / 127.5 - 1."""
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """float [...] in [-1, 1] (clamped) -> uint8, rounded; uint8 passes through."""
    if images.dtype == torch.uint8:
        return images
    return ((images.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def image_grid(images: Tensor, columns: int | None = None) -> Image.Image:
    """uint8 or float in [-1, 1], [B, 1 or 3, H, W], row by row -> one picture; about square if `columns` is None."""
    if images.ndim != 4 or images.shape[0] == 0 or images.shape[1] not in (1, 3):
        raise ValueError(f"image_grid: images must be [B>=1, 1 or 3, H, W], got {tuple(images.shape)}")
    batch, _, height, width = images.shape
    columns = min(columns or math.ceil(math.sqrt(batch)), batch)
    rows = math.ceil(batch / columns)
    pixels = to_uint8(images).cpu().expand(batch, 3, height, width)
    canvas = torch.zeros(rows * columns, 3, height, width, dtype=torch.uint8)
    canvas[:batch] = pixels
    grid = canvas.view(rows, columns, 3, height, width).permute(0, 3, 1, 4, 2).reshape(rows * height, -1, 3)
    return Image.fromarray(grid.numpy())


def _open(data: bytes, name: str) -> Image.Image:
    """Decode fully; every failure becomes a CorruptImageError that names the file."""
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise CorruptImageError(f"{name}: refused, {error}") from error
    except Exception as error:
        raise CorruptImageError(f"{name}: not a readable {', '.join(FORMATS)} image ({error})") from error
    if picture.width * picture.height > MAX_PIXELS:
        raise CorruptImageError(
            f"{name}: refused, {picture.width} x {picture.height} pixels are more than {MAX_PIXELS}; "
            "scale the picture down first"
        )
    try:
        picture.load()
    except Exception as error:
        raise CorruptImageError(f"{name}: the image is damaged or cut short ({error}); replace or remove it") from error
    return picture


def _to_rgb(picture: Image.Image) -> Image.Image:
    """RGB: grey is repeated, transparency shows white, 16-bit grey is scaled."""
    if picture.mode.startswith("I"):
        picture = Image.fromarray((np.asarray(picture, dtype=np.float64) / SIXTEEN_TO_EIGHT_BITS).astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, WHITE), picture)
    return picture.convert("RGB")


def decode_image(data: bytes, name: str, resolution: int | None) -> Tensor:
    """An image file's bytes -> uint8 [3,R,R]: upright by EXIF, RGB, largest centred square, Lanczos to `resolution`.

    With resolution None the square keeps its own size. `name` is what errors (CorruptImageError) call the file.
    """
    picture = _to_rgb(ImageOps.exif_transpose(_open(data, name)))
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    picture = picture.crop((left, top, left + side, top + side))
    if resolution is not None and side != resolution:
        picture = picture.resize((resolution, resolution), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
