"""Fourth stage: from rays to one feature a ray, by a coarse and (hierarchical) a fine pass through the field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cips3d.render.draws import Draws
from cips3d.render.points import importance_depths, points_along, stratified_depths
from cips3d.render.rays import Rays
from cips3d_ext import Films, SirenField, VolumeRenderOutput, merge_samples, volume_render

MIN_SAMPLES = 2  # a spacing needs two samples
MIN_SAMPLES_HIERARCHICAL = 3  # importance sampling uses the inner samples


@dataclass(frozen=True)
class VolumeSettings:
    """How rays are sampled and integrated: depths from near to far, options of `cips3d_ext.volume_render`."""

    near: float
    far: float
    samples: int
    hierarchical: bool
    density_noise_std: float
    activation: str
    last_back: bool
    white_back: bool
    impl: str

    def __post_init__(self) -> None:
        fewest = MIN_SAMPLES_HIERARCHICAL if self.hierarchical else MIN_SAMPLES
        if self.samples < fewest:
            raise ValueError(
                f"render: samples_per_ray must be at least {fewest} with hierarchical={self.hierarchical}, "
                f"got {self.samples}"
            )


class RayFeatures(NamedTuple):
    """feature [B,R,C], depth [B,R] = sum of weight * depth, weights [B,R,M] by increasing depth."""

    feature: Tensor
    depth: Tensor
    weights: Tensor


def render_rays(field: SirenField, films: Films, rays: Rays, draws: Draws, settings: VolumeSettings) -> RayFeatures:
    """Volume-rendered features of rays [B,R,3] whose draws are complete; M = samples, or twice that if hierarchical.

    Gradients flow through both passes, not through the positions of the fine samples (official `hierarchical_sample`).
    """
    assert draws.jitter is not None
    shape = (*rays.directions.shape[:2], settings.samples)
    depths = stratified_depths(settings.near, settings.far, draws.jitter.expand(shape))
    features, density = field(points_along(rays, depths), films)
    if settings.hierarchical:
        assert draws.u is not None
        with torch.no_grad():
            noise = _scaled(draws.density_noise_coarse, settings)
            weights = _integrate(density, None, depths, noise, settings, final=False).weights
            fine = importance_depths(depths, weights, draws.u.expand(shape), settings.impl)
        fine_features, fine_density = field(points_along(rays, fine), films)
        pairs = ((fine_density, density), (fine_features, features))
        depths, density, features = merge_samples(fine, depths, *pairs, impl=settings.impl)
    noise = _scaled(draws.density_noise, settings)
    out = _integrate(density, features, depths, noise, settings, final=True)
    assert out.feature is not None
    return RayFeatures(out.feature, out.depth, out.weights)


def _scaled(noise: Tensor | None, settings: VolumeSettings) -> Tensor | None:
    return None if noise is None else noise * settings.density_noise_std


def _integrate(
    density: Tensor,
    features: Tensor | None,
    depths: Tensor,
    noise: Tensor | None,
    settings: VolumeSettings,
    final: bool,
) -> VolumeRenderOutput:
    """The background options belong to the final integration only."""
    return volume_render(
        density,
        features,
        depths,
        noise=None if noise is None else noise.expand_as(density),
        activation=settings.activation,
        last_back=settings.last_back and final,
        white_back=settings.white_back and final,
        impl=settings.impl,
    )
