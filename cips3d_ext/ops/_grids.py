"""What `sample_planes` and `sample_volume` share: grids of texels and the points that read them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

PADDINGS = ("zeros", "border")


def check_texels(op: str, argument: str, sizes: Sequence[int]) -> None:
    """Raises ValueError unless a grid has a texel along each of its axes, which are `sizes` long."""
    if 0 in sizes:
        raise ValueError(f"{op}: {argument} must have at least one texel along each axis, got {list(sizes)}")


def with_points_in_computing_type(grid: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Points in float32 at least: on a grid of 256 texels the 8 bits of bfloat16 leave one place a texel. The grid
    stays as it is, unless points are float64."""
    wide = torch.promote_types(torch.promote_types(grid.dtype, points.dtype), torch.float32)
    return grid.to(wide) if wide == torch.float64 else grid, points.to(wide)
