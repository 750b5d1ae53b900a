"""VolumeGAN (arXiv 2112.10759): a feature volume for structure, a field of features in it, a neural renderer.

    z -> w;  w -> feature volume 4^3 .. 32^3;  (descriptor, encoded point) -> density, feature        structure
    -> volume rendering, a feature map of 32 x 32 -> modulated 1x1 layers and upsampling -> picture    texture

What is computed is that of the public code (github.com/genforce/volumegan, models/volumegan_generator.py). It takes one
w for all layers; here structure (w_shape: volume and field) and texture (w_appearance: neural renderer) may have styles
of their own, of which training mixes some, and the volume serves both passes of the hierarchical sampling.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from cips3d.models.base import BaseGenerator, Mapping
from cips3d.models.discriminator import EqualLinear
from cips3d.models.stylegan2 import StyleMapping
from cips3d.models.volumegan.config import VolumeganGeneratorConfig
from cips3d.models.volumegan.field import Shape, VolumeField
from cips3d.models.volumegan.renderer import COLOURS, NeuralRenderer
from cips3d.render.draws import Draws
from cips3d.render.rays import Camera, Rays
from cips3d.render.volume import VolumeSettings, render_field
from cips3d_ext import RenderRaysOutput, SirenFieldOutput

COIN, CUTOFF, NUMBERS = 0, 1, 2  # columns of the numbers for style mixing, before those of the other code


class VolumeganGenerator(BaseGenerator):
    """Images of one code and a camera; the picture's side is nerf_side times a power of two, or anything below."""

    config: VolumeganGeneratorConfig

    def __init__(self, config: VolumeganGeneratorConfig, impl: str = "auto") -> None:
        super().__init__(config, impl)
        self.mapping = StyleMapping(config.z_shape_dim, config.shape_style_dim, config.mapping_layers)
        self.field = VolumeField(config, impl)
        self.rgb_head = EqualLinear(config.feature_dim, COLOURS) if config.rgb_head else None
        self.renderer = NeuralRenderer(config, impl)
        self.shape_layers, self.appearance_layers = config.field_layers, config.painter_layers

    def map_shape(self, z_shape: Tensor, pose: Camera | None = None) -> Tensor:
        return self.mapping(z_shape)

    def map(
        self, z_shape: Tensor, z_appearance: Tensor, truncation_psi: float = 1.0, pose: Camera | None = None
    ) -> tuple[Tensor, Tensor]:
        """Both styles are the one w of z_shape."""
        w = self.mapping(z_shape)
        return self.truncate(w, w, truncation_psi)

    def mappings(self, pose: Camera | None = None) -> tuple[Mapping, Mapping]:
        ours = Mapping(self.config.z_shape_dim, self.mapping, self._example)
        return ours, ours

    @torch.no_grad()
    def update_mean_styles(self, n: int = 10000, seed: int = 0) -> None:
        source = torch.Generator().manual_seed(seed)
        self.mean_w_shape = self._mean_style(self.mapping, self.config.z_shape_dim, n, source)
        self.mean_w_appearance = self.mean_w_shape

    def draw_mixing(self, batch: int, generator: torch.Generator) -> Tensor | None:
        """One coin and one place for the whole batch, as the public code, and another code for each image."""
        if not self.config.style_mixing or not self.appearance_layers:
            return None
        once = torch.rand(1, NUMBERS, generator=generator, device=generator.device).expand(batch, -1)
        codes = torch.randn(batch, self.config.z_shape_dim, generator=generator, device=generator.device)
        return torch.cat([once, codes], 1)

    def map_training(
        self, z_shape: Tensor, z_appearance: Tensor, pose: Camera | None, mixing: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """w, and with probability style_mixing another code's w for the renderer's layers from a random one on."""
        w = self.mapping(z_shape)
        if mixing is None:
            return w, w
        cutoff = (mixing[:, CUTOFF] * self.appearance_layers).floor()
        layers = torch.arange(self.appearance_layers, device=w.device)
        swapped = (mixing[:, COIN] < self.config.style_mixing)[:, None] & (layers >= cutoff[:, None])  # [B,K]
        return w, torch.where(swapped[..., None], self.mapping(mixing[:, NUMBERS:])[:, None], w[:, None])

    def field_of(self, w_shape: Tensor, noise: tuple[Tensor, ...] | None = None) -> Shape:
        return self.field.shape(w_shape)

    def painter_of(self, w_shape: Tensor, w_appearance: Tensor) -> list[list[Tensor]]:
        return self.renderer.styles(w_appearance)

    def trace(self, field: Shape, rays: Rays, draws: Draws, settings: VolumeSettings) -> RenderRaysOutput:
        return render_field(partial(self.query, field), rays, draws, settings, impl=self.impl)

    def query(self, field: Shape, points: Tensor, directions: Tensor | None = None) -> SirenFieldOutput:
        return self.field(field, points)

    def density(self, field: Shape, points: Tensor) -> Tensor:
        return self.field.raw_density(field, points)

    def colours(self, painter: list[list[Tensor]], feature: Tensor) -> Tensor:
        """The features themselves: `upsample` makes a picture of them, at any side."""
        return feature

    def nerf_colours(self, feature: Tensor) -> Tensor:
        """The raw picture that the neural renderer adds to, limited to what a picture can show."""
        return self._raw_colours(feature).clamp(-1, 1)

    def ray_side(self, resolution: int, shown: int | None = None) -> int:
        self.renderer.blocks_for(resolution)
        return min(resolution, self.config.nerf_side)

    def upsample(
        self,
        painter: list[list[Tensor]],
        pixels: Tensor,
        nerf_image: Tensor,
        resolution: int,
        noise: tuple[Tensor, ...] | None,
        alpha: float,
    ) -> Tensor:
        raw = self._raw_colours(pixels.movedim(1, -1)).movedim(-1, 1)
        return self.renderer(painter, pixels, raw, resolution, noise, alpha)

    def noise_shapes(self, resolution: int) -> tuple[tuple[int, ...], ...]:
        return self.renderer.noise_shapes(resolution)

    def mapping_parameters(self) -> list[nn.Parameter]:
        return list(self.mapping.parameters())

    def nerf_parameters(self) -> list[nn.Parameter]:
        """Mapping, volume, field and the map to the raw picture."""
        parts = [self.mapping, self.field] + ([] if self.rgb_head is None else [self.rgb_head])
        return [parameter for part in parts for parameter in part.parameters()]

    @torch.no_grad()
    def adjust_init(self, density_bias: float, density_gain: float, shape_gain: float) -> None:
        self.field.density.weight.mul_(density_gain)
        self.field.density.bias.add_(density_bias)
        self.mapping.get_parameter(f"fc{self.config.mapping_layers - 1}.weight").mul_(shape_gain)

    def _raw_colours(self, feature: Tensor) -> Tensor:
        return feature[..., :COLOURS] if self.rgb_head is None else self.rgb_head(feature)
