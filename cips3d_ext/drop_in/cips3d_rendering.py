"""CIPS-3D's renderer (exp/pigan/pigan_utils.py): pi-GAN's, with the number of channels as the fourth argument."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import pigan_rendering
from .pigan_rendering import sample_pdf

__all__ = ["fancy_integration", "sample_pdf"]


def fancy_integration(
    rgb_sigma: Tensor,
    z_vals: Tensor,
    device: Any,
    dim_rgb: int = 3,
    noise_std: float = 0.5,
    last_back: bool = False,
    white_back: bool = False,
    clamp_mode: str | None = None,
    fill_mode: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """rgb_sigma [B,R,S,dim_rgb+1], z_vals [B,R,S,1] -> rgb [B,R,dim_rgb], depth [B,R,1], weights [B,R,S,1]."""
    options = (noise_std, last_back, white_back, clamp_mode, fill_mode, dim_rgb)
    return pigan_rendering.fancy_integration(rgb_sigma, z_vals, device, *options)
