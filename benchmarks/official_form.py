"""CIPS-3D's image as public code computes it: a chain of small PyTorch operations over every sample of every ray.

The baseline of bench_generator.py. It takes the parameters of our `Generator`, so its numbers can be compared with
ours, and does what the released code does with them: styles mapped anew in each pass through the field, features and
densities of both passes concatenated, sorted by depth and gathered, weights modulated for every image and multiplied
by bmm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cips3d.models import Generator
from cips3d.render import Draws, Rays

WARP = 2 / 0.24  # world units to the field's coordinates
NEAR, FAR = 0.88, 1.12
LAST_DELTA, SCAN_EPS = 1e10, 1e-10
PDF_EPS = 1e-5  # added twice: by the caller and by the sampling
DEMODULATION_EPS = 1e-8
SLOPE = 0.2


def film(layer: torch.nn.Module, x: Tensor, w: Tensor) -> Tensor:
    """sin((15 a + 30) (W x + c) + b), a and b linear in the style w."""
    frequency, phase = 15 * layer.gamma(w) + 30, layer.beta(w)
    return torch.sin(frequency[:, None] * F.linear(x, layer.weight, layer.bias) + phase[:, None])


def field(generator: Generator, points: Tensor, w: Tensor) -> Tensor:
    """points [B,R,S,3] -> features and density together [B,R,S,C+1]."""
    B, R, S, _ = points.shape
    model = generator.field
    x = points.reshape(B, R * S, 3) * WARP
    for layer in model.layers:
        x = film(layer, x, w)
    density = model.density(x)
    features = model.feature(film(model.colour, x, w))
    return torch.cat([features, density], -1).reshape(B, R, S, -1)


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


def ray_features(generator: Generator, w: Tensor, rays: Rays, draws: Draws) -> Tensor:
    """Coarse pass, fine pass, merge, integration: [B,R,C]."""
    assert draws.jitter is not None and draws.u is not None
    B, R, S = draws.jitter.shape
    origins, directions = rays.origins[:, :, None], rays.directions[:, :, None]
    even = torch.linspace(NEAR, FAR, S, dtype=w.dtype, device=w.device)
    coarse_depths = (even + (draws.jitter - 0.5) * (even[1] - even[0]))[..., None]
    coarse = field(generator, origins + coarse_depths * directions, w)
    with torch.no_grad():
        weights = integrate(coarse, coarse_depths)[1].reshape(B * R, S)
        fine_depths = importance(coarse_depths.reshape(B * R, S), weights, draws.u.reshape(B * R, S))
        fine_depths = fine_depths.reshape(B, R, S, 1)
    fine = field(generator, origins + fine_depths * directions, w)
    values, depths = torch.cat([fine, coarse], -2), torch.cat([fine_depths, coarse_depths], -2)
    order = torch.sort(depths, -2).indices
    values = torch.gather(values, -2, order.expand(-1, -1, -1, values.shape[-1]))
    return integrate(values, torch.gather(depths, -2, order))[0]


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
    feature = ray_features(generator, generator.shape_mapping(z_shape), rays, draws)
    main = inr(generator, feature, generator.appearance_mapping(z_appearance))
    return torch.stack([main, torch.tanh(generator.aux_rgb(feature))])
