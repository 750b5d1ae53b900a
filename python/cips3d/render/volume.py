"""Third stage: from rays to one feature a ray, by a coarse and (hierarchical) a fine pass through the field.

One op does it, `cips3d_ext.render_rays`: points along the rays, the field there, importance samples, integration.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cips3d.render.draws import Draws
from cips3d.render.rays import Rays
from cips3d_ext import Films, RenderRaysOutput, SirenField, render_rays

MIN_SAMPLES = 2  # a spacing needs two samples
MIN_SAMPLES_HIERARCHICAL = 3  # importance sampling uses the inner samples


@dataclass(frozen=True)
class VolumeSettings:
    """How rays are sampled and integrated: depths from near to far, options of `cips3d_ext.render_rays`."""

    near: float
    far: float
    samples: int
    hierarchical: bool
    density_noise_std: float
    activation: str
    last_back: bool
    white_back: bool

    def __post_init__(self) -> None:
        fewest = MIN_SAMPLES_HIERARCHICAL if self.hierarchical else MIN_SAMPLES
        if self.samples < fewest:
            raise ValueError(
                f"render: samples_per_ray must be at least {fewest} with hierarchical={self.hierarchical}, "
                f"got {self.samples}"
            )


def render_features(
    field: SirenField, films: Films, rays: Rays, draws: Draws, settings: VolumeSettings
) -> RenderRaysOutput:
    """Volume-rendered features of rays [B,R,3] whose draws are complete; M = samples, or twice that if hierarchical.

    feature [B,R,C], depth [B,R] = sum of weight * depth, weights [B,R,M] by increasing depth. Gradients flow through
    both passes, not through the positions of the fine samples (official `hierarchical_sample`).
    """
    batch, count, _ = rays.directions.shape
    merged = settings.samples * (2 if settings.hierarchical else 1)

    def numbers(drawn: Tensor | None, samples: int, scale: float = 1.0) -> Tensor | None:
        return None if drawn is None else (drawn * scale if scale != 1.0 else drawn).expand(batch, count, samples)

    jitter = numbers(draws.jitter, settings.samples)
    assert jitter is not None
    return render_rays(
        rays.origins,
        rays.directions,
        **field.arguments(),
        **films._asdict(),
        near=settings.near,
        far=settings.far,
        jitter=jitter,
        u=numbers(draws.u, settings.samples),
        noise_coarse=numbers(draws.density_noise_coarse, settings.samples, settings.density_noise_std),
        noise=numbers(draws.density_noise, merged, settings.density_noise_std),
        view_directions=field.view_directions,
        activation=settings.activation,
        last_back=settings.last_back,
        white_back=settings.white_back,
    )
