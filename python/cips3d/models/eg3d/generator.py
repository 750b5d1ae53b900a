"""EG3D's generator (arXiv 2112.07945, figure 2): a code and a pose -> style -> three planes -> features -> image.

Parts are named as in the public code's `TriPlaneGenerator`, so its state dicts fit (`cips3d.models.eg3d.public`).
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import torch
from torch import Tensor, nn

from cips3d.models.base import BaseGenerator
from cips3d.models.eg3d.config import Eg3dGeneratorConfig
from cips3d.models.eg3d.field import PLANES, Decoder, plane_features
from cips3d.models.eg3d.synthesis import RGB, Backbone, SuperResolution
from cips3d.models.stylegan2 import StyleMapping
from cips3d.render.draws import Draws
from cips3d.render.labels import LABEL, camera_labels, tangent
from cips3d.render.rays import Camera, Rays, camera_rays
from cips3d.render.volume import RayRule, VolumeSettings, render_field
from cips3d_ext import RenderRaysOutput, SirenFieldOutput

# Samples begin at their place and go right; intervals lie between neighbours (Mip-NeRF).
RAY_RULE = RayRule(jitter_offset=0.0, pooled=True, integral={"rule": "midpoint"})
FEWEST_SAMPLES = 4  # of which three intervals, of which the inner one has a weight for importance sampling


class StyleBackbone(nn.Module):
    """Mapping and synthesis network; public: `networks_stylegan2.Generator`."""

    def __init__(self, config: Eg3dGeneratorConfig, impl: str) -> None:
        super().__init__()
        width = config.shape_style_dim
        self.mapping = StyleMapping(config.z_shape_dim, width, config.mapping_layers, LABEL)
        channels = PLANES * config.plane_channels
        self.synthesis = Backbone(width, config.plane_side, channels, config.channel_base, config.channel_max, impl)


class Eg3dGenerator(BaseGenerator):
    """Images of the configuration's one resolution from a code and a camera; the auxiliary image is the raw one.

    Styles depend on a pose, too: on a frontal one where none is given, on none if the configuration says so.
    The density is per length of the authors' unit, as `config.camera_radius` has it.
    """

    config: Eg3dGeneratorConfig
    activation = "softplus"
    free_side = False

    def __init__(self, config: Eg3dGeneratorConfig, impl: str = "auto") -> None:
        super().__init__(config, impl)
        self.backbone = StyleBackbone(config, impl)
        self.superresolution = SuperResolution(
            config.features,
            config.sr_channels,
            config.shape_style_dim,
            config.sr_start,
            config.resolution,
            config.sr_clamp,
            impl,
        )
        self.decoder = Decoder(config.plane_channels, config.features, config.decoder_lr_multiplier)

    def map_shape(self, z_shape: Tensor, pose: Camera | None = None) -> Tensor:
        config = self.config
        if not config.pose_conditioned:
            return self.backbone.mapping(z_shape, z_shape.new_zeros(len(z_shape), LABEL))
        if pose is None:
            pose = Camera.from_angles(math.pi / 2, math.pi / 2, config.fov_deg)
        labels = camera_labels(pose.to(z_shape.device, z_shape.dtype), config.resolution, config.camera_radius)
        return self.backbone.mapping(z_shape, labels.expand(len(z_shape), -1))

    def field_of(self, w_shape: Tensor, noise: tuple[Tensor, ...] | None = None) -> Tensor:
        """Planes [B,3,C,R,R]."""
        return self.backbone.synthesis(w_shape, noise).unflatten(1, (PLANES, -1))

    def painter_of(self, w_shape: Tensor, w_appearance: Tensor) -> Tensor:
        return w_shape

    def trace(self, field: Tensor, rays: Rays, draws: Draws, settings: VolumeSettings) -> RenderRaysOutput:
        """In the authors' unit of length, which the density is per. Raises ValueError for too few samples."""
        config = self.config
        if settings.hierarchical and settings.samples < FEWEST_SAMPLES:
            raise ValueError(f"eg3d: samples_per_ray must be at least {FEWEST_SAMPLES}, got {settings.samples}")
        theirs = dataclasses.replace(settings, near=config.ray_start, far=config.ray_end)
        rays = Rays(rays.origins * config.camera_radius, rays.directions)
        out = render_field(partial(self._read, field), rays, draws, theirs, RAY_RULE, self.impl)
        return out._replace(depth=out.depth / config.camera_radius)

    def query(self, field: Tensor, points: Tensor, directions: Tensor | None = None) -> SirenFieldOutput:
        return self._read(field, points * self.config.camera_radius)

    def density(self, field: Tensor, points: Tensor) -> Tensor:
        return self.query(field, points.flatten(1, -2)).density.view(points.shape[:-1])

    def colours(self, painter: Tensor, feature: Tensor) -> Tensor:
        return 2 * feature - 1

    def nerf_colours(self, feature: Tensor) -> Tensor:
        return 2 * feature[..., :RGB] - 1

    def mapping_parameters(self) -> list[nn.Parameter]:
        return list(self.backbone.mapping.parameters())

    def nerf_parameters(self) -> list[nn.Parameter]:
        return [*self.backbone.parameters(), *self.decoder.parameters()]

    @torch.no_grad()
    def adjust_init(self, density_bias: float, density_gain: float, shape_gain: float) -> None:
        self.decoder.get_parameter("net.2.weight")[0].mul_(density_gain)
        self.decoder.get_parameter("net.2.bias")[0].add_(density_bias)
        self.backbone.mapping.get_parameter(f"fc{self.config.mapping_layers - 1}.weight").mul_(shape_gain)

    def rays(self, camera: Camera, side: int) -> Rays:
        """Through the centres of pixels of a picture of `side`, whose edges are those of the image's own pixels.

        So bilinear resizing, which keeps the edges, makes the raw image out of the image.
        """
        edges = tangent(camera.fov_deg, self.config.resolution)
        fov_deg = math.degrees(2 * math.atan(edges * (side - 1) / side))
        return camera_rays(dataclasses.replace(camera, fov_deg=fov_deg), side)

    def ray_side(self, resolution: int, shown: int | None = None) -> int:
        config = self.config
        if resolution != config.resolution:
            raise ValueError(f"eg3d: this generator draws {config.resolution} pixels a side alone, got {resolution}")
        if shown is None or not config.raw_side_images:
            return config.raw_side
        grown = min(1.0, shown / config.raw_side_images)
        return round(config.raw_side_start * (1 - grown) + config.raw_side * grown)

    def upsample(
        self,
        painter: Tensor,
        pixels: Tensor,
        nerf_image: Tensor,
        resolution: int,
        noise: tuple[Tensor, ...] | None,
        alpha: float,
    ) -> Tensor:
        return self.superresolution(pixels, painter)

    def noise_shapes(self, resolution: int) -> tuple[tuple[int, ...], ...]:
        return tuple((1, conv.resolution, conv.resolution) for conv in self.backbone.synthesis.convolutions())

    def condition(self, camera: Camera, shown: int, generator: torch.Generator) -> Camera | None:
        """Each image's own pose, or, with a probability that falls from 1, the pose of the image before it."""
        config = self.config
        if not config.pose_conditioned:
            return None
        passed = min(1.0, shown / config.swap_images) if config.swap_images else 1.0
        swap = 1 - passed + passed * config.swap_probability
        coins = torch.rand(len(camera), generator=generator, device=generator.device) < swap
        own = torch.arange(len(camera), device=generator.device)
        return camera[torch.where(coins, own.roll(1), own)]

    def _read(self, field: Tensor, points: Tensor, directions: Tensor | None = None) -> SirenFieldOutput:
        """`query` of points in the authors' unit."""
        return self.decoder(plane_features(field, points, self.config.box_warp, self.impl))
