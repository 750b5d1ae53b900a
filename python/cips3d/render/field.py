"""Second stage: the shallow NeRF, a FiLM-conditioned SIREN whose first sine layer is its positional encoding.

points, style w_shape -> features [B,R,S,C], raw density [B,R,S]          (paper section 3.1; official `SIREN` module)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from cips3d_ext import Films, FiLMSine, SirenField, siren_field

if TYPE_CHECKING:
    from cips3d.models.generator_config import GeneratorConfig

OCTAVES = 8  # of the fixed encoding: 48 numbers, a width that the CUDA kernels take; NeRF has 10


def make_field(config: GeneratorConfig, impl: str = "auto") -> SirenField:
    """`field_layers` shared sine layers, then the density (linear) and the features (another sine layer, then linear).

    The layers see the cube of side `box_side` around the origin as [-1,1]. With positional_encoding="fixed" the first
    one is NeRF's encoding (arXiv 2003.08934, equation 4) instead of a learnable one, as in the paper's table 2: sines
    and cosines of pi 2^k p for k < 8, the same for all styles, never trained.
    """
    fixed = config.positional_encoding == "fixed"
    widths = [config.field_width] * config.field_layers
    if fixed:
        widths[0] = 3 * 2 * OCTAVES
    field = SirenField(
        config.shape_style_dim,
        widths,
        config.colour_width,
        config.feature_dim,
        view_directions=config.view_directions,
        point_scale=2 / config.box_side,
        impl=impl,
    )
    if fixed:
        _fix_encoding(cast(FiLMSine, field.layers[0]))
    return field


def raw_density(field: SirenField, films: Films, points: Tensor) -> Tensor:
    """The density [B,*] before its activation at points [B,*,3]; colours are not computed."""
    trunk = field.arguments() | {"colour": None, "feature": None}
    depth = len(field.layers)
    return siren_field(points, **trunk, gamma=films.gamma[:depth], beta=films.beta[:depth]).density


@torch.no_grad()
def _fix_encoding(layer: FiLMSine) -> None:
    """sin((15 gamma + 30) (W p + b) + beta) with gamma = beta = 0: frequencies and phases are in W and b alone."""
    for affine in (layer.gamma, layer.beta):
        affine.weight.zero_()
        affine.bias.zero_()
    frequencies = math.pi * 2.0 ** torch.arange(OCTAVES)
    axes = torch.eye(3)[:, None, None] * frequencies[:, None, None]  # [axis, octave, sine or cosine, coordinate]
    layer.weight.copy_(axes.expand(-1, -1, 2, -1).flatten(0, 2) / layer.gamma_offset)
    phases = torch.tensor([0.0, math.pi / 2])
    layer.bias.copy_(phases.repeat(3 * OCTAVES) / layer.gamma_offset)
    layer.requires_grad_(False)
