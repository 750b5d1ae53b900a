"""pi-GAN's renderer (generators/volumetric_rendering.py, siren/siren.py), and CIPS-3D's (exp/pigan/pigan_utils.py).

`fancy_integration` draws randn also where noise_std = 0, as the hosts do; white_back sees the weights before last_back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..ops.sample_volume import sample_volume
from ._covers import dense
from ._samples import drawn_noise, filled, importance_depths, integrate, require, require_samples

_CLAMP_MODES = ("relu", "softplus")
_RGB = 3
RED = (1.0, 0.0, 0.0)


def fancy_integration(
    rgb_sigma: Tensor,
    z_vals: Tensor,
    device: Any = None,
    noise_std: float = 0.5,
    last_back: bool = False,
    white_back: bool = False,
    clamp_mode: str | None = None,
    fill_mode: str | None = None,
    dim_rgb: int = _RGB,
) -> tuple[Tensor, Tensor, Tensor]:
    """pi-GAN's: rgb_sigma [B,R,S,C+1], z_vals [B,R,S,1] -> rgb [B,R,C], depth [B,R,1], weights [B,R,S,1]."""
    rgb, sigma = rgb_sigma[..., :dim_rgb], rgb_sigma[..., dim_rgb:]
    require(clamp_mode in _CLAMP_MODES, f"clamp_mode must be one of {_CLAMP_MODES}, got {clamp_mode!r}")
    require(fill_mode != "debug" or rgb.shape[-1] == len(RED), "fill_mode 'debug' needs three channels")
    require_samples(sigma, rgb, z_vals)
    noise = drawn_noise(sigma, sigma.device if device is None else device, noise_std)
    options = {"activation": clamp_mode, "last_back": bool(last_back), "white_back": bool(white_back)}
    out = integrate(sigma, rgb, z_vals, noise=noise, **options)
    assert out.feature is not None
    red = torch.tensor(RED, device=out.feature.device, dtype=out.feature.dtype) if fill_mode == "debug" else None
    pixels = filled(out.feature, out.accumulation, fill_mode, red)
    return pixels, out.depth.unsqueeze(-1), out.weights.unsqueeze(-1)


def sample_pdf(bins: Tensor, weights: Tensor, N_importance: int, det: bool = False, eps: float = 1e-5) -> Tensor:
    """The hosts': bins [P,W+1], weights [P,W] -> depths [P,N_importance], without gradient (every host detaches it)."""
    return importance_depths(bins, weights, N_importance, det, eps, right=False)


def sample_from_3dgrid(coordinates: Tensor, grid: Tensor) -> Tensor:
    """pi-GAN's embedding: coordinates [B,N,3], grid [1 or B,C,D,H,W] -> [B,N,C], trilinear with aligned corners."""
    require(dense(coordinates, grid), "needs dense floating-point tensors of one device")
    require(coordinates.dim() == 3 and coordinates.shape[2] == 3, "coordinates must be [B,N,3]")
    B, N, _ = coordinates.shape
    require(grid.dim() == 5 and grid.shape[0] in (1, B), "grid must be [1 or B,C,D,H,W]")
    # One grid for all points is read as one item: an expanded grid would be copied.
    points = coordinates.float().reshape(grid.shape[0], -1, 3)
    return sample_volume(grid.float(), points, align_corners=True).reshape(B, N, grid.shape[1])
