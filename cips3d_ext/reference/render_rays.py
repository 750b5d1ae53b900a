"""Rays to features: a FiLM-SIREN field sampled along rays, twice if hierarchical, and integrated (NeRF section 5.2).

Source: CIPS-3D (arXiv 2110.09788) and pi-GAN (arXiv 2012.00926), `ImplicitGenerator3d.forward` of either. Made of the
definitions of siren_field, volume_render, sample_pdf and merge_samples. Axes: B batch, R rays, S coarse samples, F fine
samples, M = S + F samples in all, C features.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._gradients import ALL_GRADIENTS, select_gradients
from ._precision import widen
from .merge_samples import merge_samples, merge_samples_gather
from .sample_pdf import sample_pdf
from .siren_field import siren_field, siren_field_backward
from .volume_render import VolumeRenderOptions, volume_render, volume_render_backward

# Added to the coarse weights before sampling, so that empty rays still spread their samples; sample_pdf adds its own.
WEIGHT_FLOOR = 1e-5
PDF_EPS = 1e-5  # sample_pdf's default
# Of grad_masks: volume_render's density and features; origins and directions; siren_field's parameters, gamma, beta
_DENSITY_AND_FEATURES, _RAYS, _FIELD = 0b11, 0b11, 0b1110
# Positions of the feature, depth and weights among volume_render's outputs
_FEATURE, _DEPTH, _WEIGHTS = 0, 1, 2


class RenderRaysParts(NamedTuple):
    """The ops that the rendering consists of, with the arguments of their references; options as keywords."""

    siren_field: Callable[..., Any] = siren_field
    siren_field_backward: Callable[..., Any] = siren_field_backward
    volume_render: Callable[..., Any] = volume_render
    volume_render_backward: Callable[..., Any] = volume_render_backward
    sample_pdf: Callable[..., Any] = sample_pdf
    merge_samples: Callable[..., Any] = merge_samples
    merge_samples_gather: Callable[..., Any] = merge_samples_gather


REFERENCES = RenderRaysParts()


class RenderRaysOptions(NamedTuple):
    """The options of render_rays: the field's (as in siren_field), the range of depths, and the integration's."""

    widths: list[int]
    colour_width: int
    features: int
    view_directions: bool  # the field's colour layer takes the ray's direction
    point_scale: float
    gamma_scale: float
    gamma_offset: float
    beta_scale: float
    reduced_precision: bool  # a permission for kernels
    near: float
    far: float
    activation: str  # of the density, as in volume_render
    last_back: bool  # the options of the background belong to the final integration only
    white_channels: int

    def field(self) -> dict[str, Any]:
        scales = ("point_scale", "gamma_scale", "gamma_offset", "beta_scale", "reduced_precision")
        return {name: getattr(self, name) for name in ("widths", "colour_width", "features", *scales)}

    def integration(self, final: bool) -> dict[str, Any]:
        return VolumeRenderOptions(
            activation=self.activation,
            last_back=self.last_back and final,
            white_channels=self.white_channels if final else 0,
        )._asdict()


class _Rays(NamedTuple):
    """Rays and the field they go through, in the computing type."""

    origins: Tensor
    directions: Tensor
    field: tuple[Tensor | None, ...]  # parameters, gamma, beta

    def field_inputs(self, depths: Tensor, o: RenderRaysOptions) -> tuple[Any, ...]:
        """What siren_field takes for the points at depths [B,R,S]."""
        points = self.origins.unsqueeze(2) + depths.unsqueeze(-1) * self.directions.unsqueeze(2)
        return points.flatten(1, 2), *self.field, self.directions if o.view_directions else None

    def evaluate(self, depths: Tensor, o: RenderRaysOptions, part: Callable[..., Any]) -> tuple[Tensor, Tensor]:
        """Features [B,R,S,C] and density [B,R,S] at depths [B,R,S]."""
        features, density = part(*self.field_inputs(depths, o), **o.field())
        return features.reshape(*depths.shape, o.features), density.reshape(depths.shape)


def render_rays(
    origins: Tensor,
    directions: Tensor,
    parameters: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    jitter: Tensor,
    u: Tensor | None = None,
    noise_coarse: Tensor | None = None,
    noise: Tensor | None = None,
    *,
    parts: RenderRaysParts = REFERENCES,
    **options: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """feature [B,R,C], depth [B,R], weights [B,R,M] by increasing depth, and the fine depths [B,R,F].

    origins, directions [B,R,3]; parameters, gamma, beta as in siren_field; jitter [B,R,S] in [0,1) moves each evenly
    spaced depth within its interval; u [B,R,F] in [0,1) says where the fine samples fall, None: no fine samples;
    noise_coarse [B,R,S] is added to the density for the weights that the fine samples follow, noise [B,R,M] for the
    final integration, in the order of the depths. `options` are the fields of RenderRaysOptions.

    Results have the dtype of origins, the fine depths the computing type (empty [B,R,0] without u). They are constants:
    the gradient knows only how the field changes at the points. `parts` computes the parts, in place of the references.
    """
    o = RenderRaysOptions(**options)
    rays = _Rays(widen(origins), widen(directions), (widen(parameters), widen(gamma), widen(beta)))
    depths = stratified_depths(o.near, o.far, widen(jitter))
    features, density = rays.evaluate(depths, o, parts.siren_field)
    fine = depths[..., :0]
    if u is not None:
        with torch.no_grad():
            coarse = (density, None, depths, widen(noise_coarse), None, None)
            weights = parts.volume_render(*coarse, **o.integration(final=False))[_WEIGHTS]
            fine = _importance_depths(depths, weights, widen(u), parts)
        fine_features, fine_density = rays.evaluate(fine, o, parts.siren_field)
        z, order = parts.merge_samples(fine.flatten(0, 1), depths.flatten(0, 1))
        features = _merge(fine_features, features, order, parts)
        density = _merge(fine_density.unsqueeze(-1), density.unsqueeze(-1), order, parts).squeeze(-1)
        depths = z.view(density.shape)
    out = parts.volume_render(density, features, depths, widen(noise), None, None, **o.integration(final=True))
    feature, depth, weights = (out[i].to(origins.dtype) for i in (_FEATURE, _DEPTH, _WEIGHTS))
    return feature, depth, weights, fine.contiguous()


def render_rays_backward(
    grad_feature: Tensor | None,
    grad_depth: Tensor | None,
    grad_weights: Tensor | None,
    fine_depths: Tensor,
    origins: Tensor,
    directions: Tensor,
    parameters: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    jitter: Tensor,
    u: Tensor | None = None,
    noise_coarse: Tensor | None = None,
    noise: Tensor | None = None,
    *,
    grad_mask: int = ALL_GRADIENTS,
    parts: RenderRaysParts = REFERENCES,
    **options: Any,
) -> tuple[Tensor | None, ...]:
    """Gradients of origins, directions, parameters, gamma and beta.

    With the fine depths of the forward pass all depths are known: one pass through the field at the sorted depths, the
    integration's gradients, the field's.
    """
    o = RenderRaysOptions(**options)
    rays = _Rays(widen(origins), widen(directions), (widen(parameters), widen(gamma), widen(beta)))
    depths = stratified_depths(o.near, o.far, widen(jitter))
    if u is not None:
        depths = torch.cat([fine_depths, depths], -1).sort(dim=-1, stable=True)[0]
    features, density = rays.evaluate(depths, o, parts.siren_field)
    rendered = (density, features, depths, widen(noise), None, None)
    grad_density, grad_features, *_ = parts.volume_render_backward(
        *(widen(grad) for grad in (grad_feature, grad_depth, grad_weights)),
        *(None, None),  # of transmittance and accumulation
        *rendered,
        **o.integration(final=True),
        grad_mask=_DENSITY_AND_FEATURES,
    )
    grad_points, *grad_field, grad_views = parts.siren_field_backward(
        grad_features.flatten(1, 2),
        grad_density.flatten(1, 2),
        *rays.field_inputs(depths, o),
        **o.field(),
        grad_mask=_field_mask(grad_mask, o),
    )
    grad_origins = grad_directions = None
    if grad_mask & _RAYS:
        grad_points = grad_points.unflatten(1, depths.shape[1:])
        grad_origins, grad_directions = grad_points.sum(2), (depths.unsqueeze(-1) * grad_points).sum(2)
        if o.view_directions:
            grad_directions = grad_directions + grad_views
    gradients = (grad_origins, grad_directions, *grad_field)
    return select_gradients(gradients, (origins, directions, parameters, gamma, beta), grad_mask)


def _field_mask(grad_mask: int, o: RenderRaysOptions) -> int:
    """The gradients of siren_field (points, parameters, gamma, beta, directions) that those of render_rays need."""
    of_rays = bool(grad_mask & _RAYS)
    return of_rays | grad_mask >> 1 & _FIELD | (of_rays and o.view_directions) << 4


def stratified_depths(near: float, far: float, jitter: Tensor) -> Tensor:
    """Evenly spaced depths, each moved within its own interval: jitter [B,R,S] in [0,1) -> depths [B,R,S], S >= 2."""
    even = torch.linspace(near, far, jitter.shape[-1], dtype=jitter.dtype, device=jitter.device)
    spacing = even[1] - even[0]
    return even + (jitter - 0.5) * spacing


def _importance_depths(depths: Tensor, weights: Tensor, u: Tensor, parts: RenderRaysParts) -> Tensor:
    """Depths [B,R,F] at u [B,R,F], drawn where the coarse weights [B,R,S] are.

    Intervals reach from one midpoint of the coarse depths [B,R,S] to the next, so S must be at least 3.
    """
    middles = 0.5 * (depths[..., 1:] + depths[..., :-1])
    inner = weights[..., 1:-1] + WEIGHT_FLOOR
    flat = (t.flatten(0, 1) for t in (middles, inner, u))
    return parts.sample_pdf(*flat, eps=PDF_EPS, right=False).view(u.shape)


def _merge(fine: Tensor, coarse: Tensor, order: Tensor, parts: RenderRaysParts) -> Tensor:
    """[B,R,F,C] and [B,R,S,C] in the order of their depths, `order` [B*R,M] -> [B,R,M,C]."""
    merged = parts.merge_samples_gather(fine.flatten(0, 1), coarse.flatten(0, 1), order)
    return merged.unflatten(0, coarse.shape[:2])
