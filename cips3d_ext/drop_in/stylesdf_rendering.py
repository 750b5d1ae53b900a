"""StyleSDF's integrator (volume_renderer.py) and CIPS-3D++'s (exp/cips3d/nerf_utils.py): colours, features, surface.

A signed distance becomes a density sigmoid(-sdf / beta) / beta with a learnable beta; the lengths of the directions
multiply every interval, the last one too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, autograd

from ..ops.volume_render import volume_render
from ._covers import dense
from ._samples import require

_RGB = 3
_WIDE = (torch.float32, torch.float64)


def volume_integration(
    self: Any, raw: Tensor, z_vals: Tensor, rays_d: Tensor, pts: Tensor, return_eikonal: bool = False
) -> tuple[Tensor | None, ...]:
    """The method of VolumeFeatureRenderer: raw [B,H,W,S,3+1(+C)], z_vals [B,H,W,S], rays_d [B,H,W,3], pts [B,H,W,S,3].

    Returns rgb in [-1,1], features or None, sdf, mask, xyz or None, eikonal term or None.
    """
    require((self.samples_dim, self.channel_dim) == (3, -1), "samples must be axis 3, channels the last")
    sizes = [_RGB, 1, self.feature_out_size] if self.output_features else [_RGB, 1]
    require(raw.shape[-1] == sum(sizes), f"raw must have {sum(sizes)} channels, got {raw.shape[-1]}")
    rgb, sdf, *features = torch.split(raw, sizes, dim=-1)
    beta = self.sigmoid_beta if self.with_sdf else None
    _require_rays(sdf, z_vals, rays_d, pts, beta)
    noise = torch.randn_like(sdf) * self.raw_noise_std if self.raw_noise_std > 0.0 else None
    eikonal = self.get_eikonal_term(pts, sdf) if self.with_sdf and return_eikonal else None
    noise, wide = None if self.with_sdf else noise, features[0] if features else None
    feature_map, weights = _integrate(sdf, wide, z_vals, rays_d, noise, beta, bool(self.force_background))
    xyz, mask = (_summed(weights, pts), _last(weights)) if self.return_xyz else (None, None)
    colours = -1 + 2 * _summed(weights, torch.sigmoid(rgb))
    return colours, feature_map, sdf if self.return_sdf else None, mask, xyz, eikonal


def volume_integration_cips3dpp(
    rgb: Tensor,
    sdf: Tensor,
    features: Tensor | None,
    z_vals: Tensor,
    rays_d: Tensor,
    pts: Tensor,
    with_sdf: bool = True,
    sigmoid_beta: Tensor | None = None,
    return_eikonal: bool = False,
    raw_noise_std: float = 0.0,
    force_background: bool = False,
) -> tuple[Tensor | None, ...]:
    """Render.volume_integration: rgb, pts [B,*,S,3], sdf [B,*,S,1], features [B,*,S,C], z_vals [B,*,S], rays_d [B,*,3].

    Returns rgb in [-1,1], features or None, xyz, (mask, -|xyz|) [B,*,2], eikonal term or None.
    """
    require(with_sdf or not return_eikonal, "an eikonal term needs a signed distance")
    _require_rays(sdf, z_vals, rays_d, pts, sigmoid_beta if with_sdf else None)
    eikonal = noise = None
    if with_sdf and return_eikonal:
        eikonal = autograd.grad(sdf, pts, torch.ones_like(sdf), create_graph=True)[0]
    if not with_sdf and raw_noise_std > 0.0:
        noise = torch.randn_like(sdf) * raw_noise_std
    beta = sigmoid_beta if with_sdf else None
    feature_map, weights = _integrate(sdf, features, z_vals, rays_d, noise, beta, bool(force_background))
    xyz = _summed(weights, pts)
    mask = torch.cat([_last(weights), -xyz.norm(dim=-1, keepdim=True)], -1)
    return -1 + 2 * _summed(weights, torch.sigmoid(rgb)), feature_map, xyz, mask, eikonal


def _require_rays(sdf: Tensor, z_vals: Tensor, rays_d: Tensor, pts: Tensor, beta: Tensor | None) -> None:
    require(dense(sdf, z_vals, rays_d, pts, *([] if beta is None else [beta])), "needs dense tensors of one device")
    shape = z_vals.shape
    require(len(shape) > 2 and shape[-1] > 0, "z_vals must be [B,*,S]")
    require(sdf.shape == (*shape, 1), f"sdf must be {[*shape, 1]}, got {list(sdf.shape)}")
    require(pts.shape == (*shape, 3) and rays_d.shape == (*shape[:-1], 3), "pts and rays_d must fit z_vals")
    require(all(t.dtype in _WIDE for t in (sdf, z_vals, rays_d, pts)), "needs float32 or float64")
    require(beta is None or beta.numel() == 1, "beta must have one element")


def _integrate(
    sdf: Tensor,
    features: Tensor | None,
    z_vals: Tensor,
    rays_d: Tensor,
    noise: Tensor | None,
    beta: Tensor | None,
    force_background: bool,
) -> tuple[Tensor | None, Tensor]:
    """Integrated features [B,*,C], read where they lie among the channels of the network's output; weights [B,*,S]."""
    axes = z_vals.dim() - 2
    options: dict[str, Any] = {"activation": "softplus"} if beta is None else {"activation": "sdf", "beta": beta}
    flat = [sdf.squeeze(-1), z_vals, rays_d.norm(dim=-1)]
    density, depths, norms = (t.flatten(1, axes) for t in flat)
    out = volume_render(
        density,
        None if features is None else features.flatten(1, axes),
        depths,
        noise=None if noise is None else noise.squeeze(-1).reshape(density.shape),
        ray_norm=norms,
        last_back=force_background,
        **options,
    )
    feature = None if out.feature is None else out.feature.reshape(*z_vals.shape[:-1], -1)
    return feature, out.weights.reshape(z_vals.shape)


def _summed(weights: Tensor, values: Tensor) -> Tensor:
    """The sum along the ray of few channels, weights [B,*,S], values [B,*,S,3]: bringing them beside the features costs
    more."""
    return (weights.unsqueeze(-1) * values).sum(-2)


def _last(weights: Tensor) -> Tensor:
    """The weight of the last sample, [B,*,1]: the background's."""
    return weights[..., -1:].clone()
