"""CIPS-3D as public code computes it: a chain of small PyTorch operations over every sample of every ray.

The baseline of bench_siren_field.py, bench_render_rays.py and bench_generator.py. The last gives it the parameters of
our `Generator`, so its numbers can be compared with ours, and it does what the released code does with them: styles
mapped anew in each pass through the field, features and densities of both passes concatenated, sorted by depth and
gathered, weights modulated for every image and multiplied by bmm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from field_shapes import FIELDS, FieldShape
from torch import Tensor

from cips3d.models import Generator
from cips3d.render import Draws, Rays

WARP = 2 / 0.24  # world units to the field's coordinates
NEAR, FAR = 0.88, 1.12
LAST_DELTA, SCAN_EPS = 1e10, 1e-10
PDF_EPS = 1e-5  # added twice: by the caller and by the sampling
DEMODULATION_EPS = 1e-8
SLOPE = 0.2


class Field(NamedTuple):
    """The tensors of a field, by the names that `cips3d_ext.siren_field` gives them."""

    layers: list[tuple[Tensor, Tensor]]
    density: tuple[Tensor, Tensor]
    colour: tuple[Tensor, Tensor]
    feature: tuple[Tensor, Tensor]
    gamma: list[Tensor]
    beta: list[Tensor]

    @classmethod
    def of(cls, flat: Sequence[Tensor]) -> Field:
        """From the list that `flat` gives: trunk layers, density, colour, feature, then gammas and betas."""
        sines = (len(flat) - 4) // 4  # weight, bias, gamma and beta each; density and feature have no film
        films = 2 * sines + 4
        maps = [(flat[k], flat[k + 1]) for k in range(0, films, 2)]
        return cls(maps[:-3], *maps[-3:], list(flat[films : films + sines]), list(flat[films + sines :]))


def example_field(batch: int, shape: FieldShape = FIELDS["cips3d"]) -> list[Tensor]:
    """A field at its initial spread, with styles, as the list that `Field.of` takes."""
    maps = [((torch.rand(o, i) * 2 - 1) * (6 / i) ** 0.5 / 25, torch.randn(o) / 10) for o, i in shape.maps()]
    widths = (*shape.widths, shape.colour_width)
    gamma, beta = ([scale * torch.randn(batch, width) for width in widths] for scale in (0.3, 0.3))
    return [*(tensor for pair in maps for tensor in pair), *gamma, *beta]


def field_chain(points: Tensor, field: Field, directions: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """points [B,N,3] -> features [B,N,C], density [B,N], layer by layer: sin((15 gamma + 30) (W x + c) + beta).

    directions [B,R,3]: each before the colour layer's other inputs, at its N / R points (pi-GAN).
    """
    x = points * WARP
    for (weight, bias), gamma, beta in zip(field.layers, field.gamma, field.beta, strict=False):
        x = film(x, weight, bias, gamma, beta)
    density = F.linear(x, *field.density)
    x = x if directions is None else with_directions(x, directions)
    return F.linear(film(x, *field.colour, field.gamma[-1], field.beta[-1]), *field.feature), density[..., 0]


def with_directions(x: Tensor, directions: Tensor) -> Tensor:
    return torch.cat([directions.repeat_interleave(x.shape[1] // directions.shape[1], 1), x], -1)


def film(x: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return torch.sin((15 * gamma + 30)[:, None] * F.linear(x, weight, bias) + beta[:, None])


def generator_field(generator: Generator, w: Tensor) -> Field:
    """The styles mapped for one pass."""
    model = generator.field
    sines = [*model.layers, model.colour]
    maps = [(layer.weight, layer.bias) for layer in [*model.layers, model.density, model.colour, model.feature]]
    gamma, beta = [layer.gamma(w) for layer in sines], [layer.beta(w) for layer in sines]
    return Field(maps[:-3], maps[-3], maps[-2], maps[-1], gamma, beta)


def integrate(values: Tensor, depths: Tensor) -> tuple[Tensor, Tensor]:
    """values [B,R,S,C+1], depths [B,R,S,1] -> feature [B,R,C], weights [B,R,S,1]."""
    features, density = values[..., :-1], values[..., -1:]
    delta = depths[:, :, 1:] - depths[:, :, :-1]
    delta = torch.cat([delta, LAST_DELTA * torch.ones_like(delta[:, :, :1])], -2)
    alpha = 1 - torch.exp(-delta * F.relu(density))
    transmittance = torch.cumprod(torch.cat([torch.ones_like(alpha[:, :, :1]), 1 - alpha + SCAN_EPS], -2), -2)
    weights = alpha * transmittance[:, :, :-1]
    return (weights * features).sum(-2), weights


def importance(depths: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """Fine depths [B*R,S] from coarse ones and their weights [B*R,S]."""
    bins, inner = 0.5 * (depths[:, 1:] + depths[:, :-1]), weights[:, 1:-1] + 2 * PDF_EPS
    cdf = torch.cumsum(inner / inner.sum(-1, keepdim=True), -1)
    cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf], -1)
    index = torch.searchsorted(cdf, u)
    below, above = (index - 1).clamp(min=0), index.clamp(max=inner.shape[1])
    ends = torch.stack([below, above], -1).reshape(len(u), -1)
    cdf_ends = torch.gather(cdf, 1, ends).reshape(*u.shape, 2)
    bin_ends = torch.gather(bins, 1, ends).reshape(*u.shape, 2)
    step = cdf_ends[..., 1] - cdf_ends[..., 0]
    step = torch.where(step < PDF_EPS, torch.ones_like(step), step)
    return bin_ends[..., 0] + (u - cdf_ends[..., 0]) / step * (bin_ends[..., 1] - bin_ends[..., 0])


def ray_chain(
    origins: Tensor, directions: Tensor, jitter: Tensor, u: Tensor, field: Callable[[], Field]
) -> tuple[Tensor, Tensor]:
    """Coarse pass, fine pass, merge, integration: feature [B,R,C], weights [B,R,2S] by increasing depth.

    `field` is called for each pass.
    """
    B, R, S = jitter.shape
    origins, directions = origins[:, :, None], directions[:, :, None]

    def values(depths: Tensor) -> Tensor:
        features, density = field_chain((origins + depths * directions).reshape(B, R * S, 3), field())
        return torch.cat([features, density[..., None]], -1).reshape(B, R, S, -1)

    even = torch.linspace(NEAR, FAR, S, dtype=jitter.dtype, device=jitter.device)
    coarse_depths = (even + (jitter - 0.5) * (even[1] - even[0]))[..., None]
    coarse = values(coarse_depths)
    with torch.no_grad():
        weights = integrate(coarse, coarse_depths)[1].reshape(B * R, S)
        fine_depths = importance(coarse_depths.reshape(B * R, S), weights, u.reshape(B * R, S))
        fine_depths = fine_depths.reshape(B, R, S, 1)
    merged, depths = torch.cat([values(fine_depths), coarse], -2), torch.cat([fine_depths, coarse_depths], -2)
    order = torch.sort(depths, -2).indices
    merged = torch.gather(merged, -2, order.expand(-1, -1, -1, merged.shape[-1]))
    feature, weights = integrate(merged, torch.gather(depths, -2, order))
    return feature, weights[..., 0]


def modulated(layer: torch.nn.Module, x: Tensor, w: Tensor) -> Tensor:
    """A weight of its own for every image, demodulated, then bmm."""
    weight = layer.weight.T[None] * (layer.modulation(w)[:, :, None] + 1)
    weight = weight * torch.rsqrt(weight.square().sum(1, keepdim=True) + DEMODULATION_EPS)
    return F.leaky_relu(torch.bmm(x, weight), SLOPE)


def inr(generator: Generator, x: Tensor, w: Tensor) -> Tensor:
    """features [B,R,C] -> rgb [B,R,3]."""
    rgb = torch.zeros((), dtype=x.dtype, device=x.device)
    for index, block in enumerate(generator.inr.blocks):
        y = modulated(block.second, modulated(block.first, x, w), w)
        x = y + x if block.skip else y
        if str(index) in generator.inr.to_rgb:
            rgb = rgb + generator.inr.to_rgb[str(index)](x)
    return torch.tanh(rgb)


def official_pixels(generator: Generator, z_shape: Tensor, z_appearance: Tensor, rays: Rays, draws: Draws) -> Tensor:
    """Main and auxiliary colours [2,B,R,3] of all rays."""
    assert draws.jitter is not None and draws.u is not None
    w = generator.shape_mapping(z_shape)
    feature, _ = ray_chain(*rays, draws.jitter, draws.u, lambda: generator_field(generator, w))
    main = inr(generator, feature, generator.appearance_mapping(z_appearance))
    return torch.stack([main, torch.tanh(generator.aux_rgb(feature))])
