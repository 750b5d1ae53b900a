"""Third stage: the shallow NeRF, a FiLM-conditioned SIREN without view directions and positional encoding.

points, style w_shape -> features [B,R,S,C], raw density [B,R,S]          (paper section 3.1; official `SIREN` module)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cips3d_ext import film_sine

# Frequencies start around 30 (SIREN's omega_0) and the style moves them by about 15: gamma = 15 * affine(w) + 30.
FREQUENCY_SCALE, FREQUENCY_OFFSET = 15.0, 30.0
SINE_INIT_DIVISOR = 25.0  # SIREN's initialisation for layers of frequency about 25 (pi-GAN)
STYLE_INIT_SCALE = 0.25  # styles start close to no modulation (pi-GAN)
LRELU_SLOPE = 0.2


class Film(NamedTuple):
    """One layer's raw frequency and its phase (rad) for each image and channel, [B,O] each."""

    gamma: Tensor
    beta: Tensor


class FilmSineLayer(nn.Module):
    """sin((15 gamma + 30) * (W x + b) + beta), gamma and beta affine in the style (official `FiLMLayer`)."""

    def __init__(self, in_features: int, out_features: int, style_dim: int, impl: str) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.gamma = nn.Linear(style_dim, out_features)
        self.beta = nn.Linear(style_dim, out_features)
        self.impl = impl
        bound = math.sqrt(6 / in_features) / SINE_INIT_DIVISOR
        nn.init.uniform_(self.linear.weight, -bound, bound)
        with torch.no_grad():
            self.gamma.weight.mul_(STYLE_INIT_SCALE)
            self.beta.weight.mul_(STYLE_INIT_SCALE)

    def film(self, style: Tensor) -> Film:  # [B,W]
        return Film(self.gamma(style), self.beta(style))

    def forward(self, x: Tensor, film: Film) -> Tensor:  # [B,N,I] -> [B,N,O]
        return film_sine(
            x,
            self.linear.weight,
            self.linear.bias,
            film.gamma,
            film.beta,
            gamma_scale=FREQUENCY_SCALE,
            gamma_offset=FREQUENCY_OFFSET,
            impl=self.impl,
        )


class FilmSirenField(nn.Module):
    """`layers` shared sine layers, then the density (linear) and the features (another sine layer, then linear)."""

    def __init__(
        self,
        style_dim: int,
        width: int,
        layers: int,
        colour_width: int,
        feature_dim: int,
        box_scale: float,
        impl: str = "auto",
    ) -> None:
        super().__init__()
        self.box_scale = box_scale
        widths = [3] + [width] * layers
        self.layers = nn.ModuleList(
            FilmSineLayer(i, o, style_dim, impl) for i, o in zip(widths[:-1], widths[1:], strict=True)
        )
        self.density = nn.Linear(width, 1)
        self.colour = FilmSineLayer(width, colour_width, style_dim, impl)
        self.feature = nn.Linear(colour_width, feature_dim)
        nn.init.kaiming_normal_(self.feature.weight, a=LRELU_SLOPE)

    def films(self, style: Tensor) -> list[Film]:
        """The modulation of every layer, the colour layer last, from w_shape [B,W]: once an image, for all points."""
        return [layer.film(style) for layer in [*self.layers, self.colour]]

    def forward(self, points: Tensor, films: list[Film]) -> tuple[Tensor, Tensor]:
        """points [B,R,S,3] in world units -> features [B,R,S,C], density [B,R,S] (1/length, before its activation)."""
        batch, rays, samples, _ = points.shape
        x = (points * self.box_scale).reshape(batch, rays * samples, 3)
        for layer, film in zip(self.layers, films[:-1], strict=True):
            x = layer(x, film)
        density = self.density(x)
        features = self.feature(self.colour(x, films[-1]))
        return features.view(batch, rays, samples, -1), density.view(batch, rays, samples)
