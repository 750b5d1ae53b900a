"""VolumeGAN's renderer (models/rendering, models/volumegan_generator.py): ray integration and the feature volume."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..ops.sample_volume import sample_volume
from ._covers import dense
from ._samples import drawn_noise, filled, integrate, require, require_samples
from .pigan_rendering import sample_pdf

# clamp_mode -> options of the op; mipnerf is softplus(sigma - 1)
_CLAMP_MODES: dict[str | None, dict[str, Any]] = {
    "relu": {"activation": "relu"},
    "softplus": {"activation": "softplus"},
    "mipnerf": {"activation": "softplus", "shift": -1.0},
}
_RED = (1.0, 0.0, 0.0, 0.0)  # the host's colour has four channels
_LEAST_WEIGHT = 1e-5  # which every sample has when new ones are drawn


def renderer(
    rgbs: Tensor,
    sigmas: Tensor,
    pts_z: Tensor,
    noise_std: float,
    last_back: bool = False,
    white_back: bool = False,
    clamp_mode: str | None = None,
    render_mode: str | None = None,
    fill_mode: str | None = None,
    max_depth: float | None = None,
    num_per_group: int | None = None,
) -> dict[str, Tensor]:
    """rgbs [B,R,S,C] or [B,H,W,S,C], sigmas, pts_z [.,S,1] -> rgb, depth, weights, alphas, with the same leading axes.

    render_mode 'no_dist' makes every interval 1; the last one ends at max_depth, if given. 'alphas' is, as in the host,
    the transmittance before the first sample: ones.
    """
    require(rgbs.dim() in (4, 5) and sigmas.dim() == pts_z.dim() == rgbs.dim(), "needs three tensors of 4 or 5 axes")
    leading, steps, channels = rgbs.shape[:-2], rgbs.shape[-2], rgbs.shape[-1]
    require(clamp_mode in _CLAMP_MODES, f"clamp_mode must be one of {list(_CLAMP_MODES)}, got {clamp_mode!r}")
    require(num_per_group in (None, steps), "samples in groups are not integrated by the op")
    require(max_depth is None or isinstance(max_depth, (int, float)), "max_depth must be a number")
    require(fill_mode != "debug" or channels == len(_RED), "fill_mode 'debug' needs four channels")
    if rgbs.dim() == 5:
        rgbs, sigmas, pts_z = (t.reshape(t.shape[0], -1, *t.shape[-2:]) for t in (rgbs, sigmas, pts_z))
    require_samples(sigmas, rgbs, pts_z)
    out = integrate(
        sigmas,
        rgbs,
        pts_z,
        noise=drawn_noise(sigmas, sigmas.device, noise_std),
        **_CLAMP_MODES[clamp_mode],
        far=None if max_depth is None else float(max_depth),
        unit_delta=render_mode == "no_dist",
        last_back=bool(last_back),
        white_back=bool(white_back),
    )
    assert out.feature is not None
    feature = out.feature
    red = torch.tensor(_RED, device=feature.device, dtype=feature.dtype) if fill_mode == "debug" else None
    return {
        "rgb": filled(feature, out.accumulation, fill_mode, red).reshape(*leading, channels),
        "depth": out.depth.reshape(*leading, 1),
        "weights": out.weights.reshape(*leading, steps, 1),
        "alphas": torch.ones_like(out.depth).reshape(*leading, 1),
    }


class _Settings:
    """What both renderers of the host keep; a call may change it, for itself and the next ones."""

    def __init__(
        self,
        last_back: bool = False,
        white_back: bool = False,
        clamp_mode: str | None = None,
        render_mode: str | None = None,
        fill_mode: str | None = None,
        max_depth: float | None = None,
        num_per_group: int | None = None,
    ) -> None:
        self.last_back, self.white_back, self.clamp_mode = last_back, white_back, clamp_mode
        self.render_mode, self.fill_mode = render_mode, fill_mode
        self.max_depth, self.num_per_group = max_depth, num_per_group

    def update(self, settings: dict[str, Any]) -> None:
        """Takes those of `settings` that it has."""
        vars(self).update({name: value for name, value in settings.items() if name in vars(self)})


class Renderer(_Settings):
    """VolumeGAN's: an object that keeps the options of `renderer`."""

    def __call__(
        self, rgbs: Tensor, sigmas: Tensor, pts_z: Tensor, noise_std: float, **kwargs: Any
    ) -> dict[str, Tensor]:
        """As `renderer`."""
        self.update(kwargs)
        return renderer(rgbs, sigmas, pts_z, noise_std, **vars(self))


class HierarchicalSampling(_Settings):
    """VolumeGAN's: as many new samples on each ray as it has, where the coarse ones are seen."""

    def __call__(
        self,
        coarse_rgbs: Tensor,
        coarse_sigmas: Tensor,
        pts_z: Tensor,
        ray_origins: Tensor,
        ray_dirs: Tensor,
        noise_std: float = 0.5,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """Colours, densities and depths as `renderer` takes them, ray_origins and ray_dirs [B,R,3] or [B,H,W,3].

        Returns: pts [.,S,3] and pts_z [.,S,1] of the new samples, in the order of their draw, and ray_dirs.
        """
        self.update(kwargs)
        leading, steps = pts_z.shape[:-2], pts_z.shape[-2]
        weights = renderer(coarse_rgbs, coarse_sigmas, pts_z, noise_std, **vars(self))["weights"]
        depths = pts_z.reshape(-1, steps)
        middles = 0.5 * (depths[:, :-1] + depths[:, 1:])
        fine = self.sample_pdf(middles, (weights.reshape(-1, steps) + _LEAST_WEIGHT)[:, 1:-1], steps)
        fine = fine.detach().reshape(*leading, steps, 1)
        return {"pts": ray_origins.unsqueeze(-2) + ray_dirs.unsqueeze(-2) * fine, "pts_z": fine, "ray_dirs": ray_dirs}

    def sample_pdf(
        self, bins: Tensor, weights: Tensor, N_importance: int, det: bool = False, eps: float = 1e-5
    ) -> Tensor:
        """bins [P,W+1], weights [P,W] -> depths [P,N_importance]."""
        return sample_pdf(bins, weights, N_importance, det, eps)


def grid_sample_3d(image: Tensor, optical: Tensor) -> Tensor:
    """image [B,C,D,H,W], optical [B,D',H',W',3] -> [B,C,D',H',W']: trilinear, aligned corners, border."""
    require(dense(image, optical) and image.dim() == optical.dim() == 5, "needs dense tensors of five axes")
    require(image.dtype == optical.dtype, "needs one dtype")
    sampled = _sample(image, optical.flatten(1, 3))
    return sampled.unflatten(2, optical.shape[1:4])


def interpolate_feature(points: Tensor, volume: Tensor, bounds: Tensor) -> Tensor:
    """points [B,N,3] in the box bounds [2,3] (lowest and highest corner), volume [B,C,D,H,W] -> [B,C,N]."""
    require(dense(points, volume, bounds) and points.dim() == 3 and volume.dim() == 5, "needs dense tensors")
    require(points.dtype == volume.dtype == bounds.dtype, "needs one dtype")
    low, high = bounds
    return _sample(volume, (points - low) / (high - low) * 2 - 1)


def _sample(volume: Tensor, points: Tensor) -> Tensor:
    return sample_volume(volume, points, align_corners=True, padding="border").transpose(1, 2).contiguous()
