"""Second stage: where along each ray the field is evaluated. Depths are distances from the camera."""

from __future__ import annotations

import torch
from torch import Tensor

from cips3d.render.rays import Rays
from cips3d_ext import sample_pdf

# Added to the coarse weights before sampling, so that empty rays still spread their samples; sample_pdf adds its own.
WEIGHT_FLOOR = 1e-5


def stratified_depths(near: float, far: float, jitter: Tensor) -> Tensor:
    """Evenly spaced depths, each moved within its own interval: jitter [B,R,S] in [0,1) -> depths [B,R,S]."""
    samples = jitter.shape[-1]
    even = torch.linspace(near, far, samples, dtype=jitter.dtype, device=jitter.device)
    spacing = even[1] - even[0]
    return even + (jitter - 0.5) * spacing


def importance_depths(depths: Tensor, weights: Tensor, u: Tensor, impl: str) -> Tensor:
    """As many new depths [B,R,n] as there are u [B,R,n], drawn where the coarse weights [B,R,S] are (NeRF section 5.2).

    Intervals reach from one midpoint of the coarse depths [B,R,S] to the next, so S must be at least 3. No gradient.
    """
    middles = 0.5 * (depths[..., 1:] + depths[..., :-1])
    inner = weights[..., 1:-1] + WEIGHT_FLOOR
    return sample_pdf(middles, inner, u.shape[-1], u=u, impl=impl)


def points_along(rays: Rays, depths: Tensor) -> Tensor:
    """Points [B,R,S,3] at depths [B,R,S]."""
    return rays.origins.unsqueeze(2) + depths.unsqueeze(-1) * rays.directions.unsqueeze(2)
