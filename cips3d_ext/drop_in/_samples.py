"""What the renderers of several hosts share: when an op takes their samples, and the parts that they spell alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..ops.sample_pdf import sample_pdf as sample_pdf_op
from ..ops.volume_render import VolumeRenderOutput, volume_render
from ._covers import dense

INFINITE_DELTA = 1e10  # the hosts' length of the last interval
_WIDE = (torch.float32, torch.float64)


class NotCovered(ValueError):
    """A call with options or tensors that the op does not take. In an accelerated model the host's function runs."""


def require(covered: bool, reason: str) -> None:
    """Raises NotCovered unless `covered`. It goes before every random draw: the host's function draws its own."""
    if not covered:
        raise NotCovered(reason)


def integrate(
    density: Tensor, features: Tensor | None, depths: Tensor, *, noise: Tensor | None = None, **options: Any
) -> VolumeRenderOutput:
    """`volume_render` with density, depths, noise [B,R,S,1] and features [B,R,S,C], all in the widest dtype of them."""
    given = [t for t in (density, features, depths, noise) if t is not None]
    dtype = given[0].dtype
    for tensor in given[1:]:
        dtype = torch.promote_types(dtype, tensor.dtype)
    features = None if features is None else features.to(dtype)
    noise = None if noise is None else noise.to(dtype).squeeze(-1)
    rays = density.to(dtype).squeeze(-1), features, depths.to(dtype).squeeze(-1)
    return volume_render(*rays, noise=noise, **options)


def require_samples(density: Tensor, features: Tensor, depths: Tensor) -> None:
    """Raises NotCovered unless density and depths are [B,R,S,1], features [B,R,S,C], depths of 32 or 64 bits."""
    require(dense(density, features, depths), "needs dense floating-point tensors of one device")
    shape = density.shape
    require(len(shape) == 4 and shape[-1] == 1, f"density must be [B,R,S,1], got {list(shape)}")
    require(depths.shape == shape, f"depths must be {list(shape)}, got {list(depths.shape)}")
    require(features.shape[:-1] == shape[:-1], f"features must be {list(shape[:-1])} + [C], got {list(features.shape)}")
    require(shape[2] > 0, "needs at least one sample a ray")
    require(depths.dtype in _WIDE, f"depths must be float32 or float64, got {depths.dtype}")


def drawn_noise(density: Tensor, device: Any, std: float) -> Tensor | None:
    """std * randn as pi-GAN and its followers draw it: also for std = 0, where it adds nothing but its dtype."""
    noise = torch.randn(density.shape, device=device)
    silent = isinstance(std, (int, float)) and std == 0
    return None if silent and torch.promote_types(density.dtype, noise.dtype) == density.dtype else noise * std


def filled(feature: Tensor, accumulation: Tensor, mode: str | None, colour: Tensor | None) -> Tensor:
    """pi-GAN's fill modes: "debug" paints rays of small accumulation [B,R] in `colour`, "weight" shows it."""
    if colour is not None:
        feature[accumulation < 0.9] = colour
    if mode == "weight":
        return accumulation.unsqueeze(-1).expand_as(feature).contiguous()
    return feature


def importance_depths(
    bins: Tensor, weights: Tensor, N_importance: int, det: bool, eps: float, *, right: bool
) -> Tensor:
    """The hosts' sample_pdf: bins [P,K], weights [P,W] -> depths [P,N], without gradient; draws u as they do.

    With det the last u is 1, where the last bit of the distribution decides between bins that nothing is seen in:
    then the hosts' own operations run, one by one.
    """
    dtype = torch.get_default_dtype()  # of the u that they draw
    require(dense(bins, weights), "needs dense floating-point tensors of one device")
    require(bins.dim() == weights.dim() == 2, "bins and weights must have two axes")
    require(bins.dtype == weights.dtype == dtype, f"bins and weights must be {dtype}")
    require(bins.shape[0] == weights.shape[0] and bins.shape[1] > weights.shape[1] > 0, "needs more bins than weights")
    rays = weights.shape[0]
    if det:
        u = torch.linspace(0, 1, N_importance, device=bins.device).expand(rays, N_importance)
    else:
        u = torch.rand(rays, N_importance, device=bins.device)
    return sample_pdf_op(bins, weights, N_importance, u=u, eps=eps, right=right, impl="reference" if det else "auto")


def ray_weights(
    sigma: Tensor, z_vals: Tensor, ray_vector: Tensor | None, *, last_delta: float, norm_last: bool, **options: Any
) -> VolumeRenderOutput:
    """Weights alone, from sigma and z_vals [B,R,S] and directions [B,R,3] whose length multiplies the intervals."""
    given = [t for t in (sigma, z_vals, ray_vector) if t is not None]
    require(dense(*given), "needs dense floating-point tensors of one device")
    require(sigma.dim() == 3 and sigma.shape[2] > 0, "sigma must be [B,R,S]")
    require(z_vals.shape == sigma.shape, f"z_vals must be {list(sigma.shape)}, got {list(z_vals.shape)}")
    require(isinstance(last_delta, (int, float)), "the last interval must be a number")
    require(all(t.dtype in _WIDE for t in given), "needs float32 or float64")
    norm = None
    if ray_vector is not None:
        require(ray_vector.shape == (*sigma.shape[:2], 3), "ray_vector must be [B,R,3]")
        norm = ray_vector.norm(dim=-1)
    rays = sigma, None, z_vals
    return volume_render(*rays, ray_norm=norm, last_delta=float(last_delta), norm_last=norm_last, **options)
