"""Third stage: the shallow NeRF, a FiLM-conditioned SIREN without view directions and positional encoding.

points, style w_shape -> features [B,R,S,C], raw density [B,R,S]          (paper section 3.1; official `SIREN` module)
"""

from __future__ import annotations

from typing import NamedTuple, cast

from torch import Tensor, nn

from cips3d_ext import FiLMSine

LRELU_SLOPE = 0.2


class Film(NamedTuple):
    """One layer's gamma (frequency = 15 gamma + 30) and phase beta (rad) for each image and channel, [B,O] each."""

    gamma: Tensor
    beta: Tensor


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
            FiLMSine(i, o, style_dim, impl=impl) for i, o in zip(widths[:-1], widths[1:], strict=True)
        )
        self.density = nn.Linear(width, 1)
        self.colour = FiLMSine(width, colour_width, style_dim, impl=impl)
        self.feature = nn.Linear(colour_width, feature_dim)
        nn.init.kaiming_normal_(self.feature.weight, a=LRELU_SLOPE)

    def films(self, style: Tensor) -> list[Film]:
        """The modulation of every layer, the colour layer last, from w_shape [B,W]: once an image, for all points."""
        layers = [cast(FiLMSine, layer) for layer in [*self.layers, self.colour]]
        return [Film(layer.gamma(style), layer.beta(style)) for layer in layers]

    def forward(self, points: Tensor, films: list[Film]) -> tuple[Tensor, Tensor]:
        """points [B,R,S,3] in world units -> features [B,R,S,C], density [B,R,S] (1/length, before its activation)."""
        batch, rays, samples, _ = points.shape
        x = (points * self.box_scale).reshape(batch, rays * samples, 3)
        for layer, film in zip(self.layers, films[:-1], strict=True):
            x = cast(FiLMSine, layer).apply_film(x, *film)
        density = self.density(x)
        features = self.feature(self.colour.apply_film(x, *films[-1]))
        return features.view(batch, rays, samples, features.shape[-1]), density.view(batch, rays, samples)
