"""The generator of CIPS-3D: mapping networks, a shallow NeRF for shape, a per-pixel INR for appearance."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cips3d.models.generator_config import GeneratorConfig
from cips3d.models.mapping import MappingNetwork
from cips3d.render.draws import Draws, complete_draws
from cips3d.render.field import make_field
from cips3d.render.image import Pixels, RenderOutput, all_pixels, partly_differentiable_pixels, to_images
from cips3d.render.inr import Inr
from cips3d.render.rays import Camera, Rays, camera_rays
from cips3d.render.volume import VolumeSettings, render_features
from cips3d_ext import Films

AUX_INIT_DIVISOR = 25.0  # auxiliary pictures start almost grey
MEAN_STYLE_BATCH = 1000  # codes mapped at a time by update_mean_styles


class Styles(NamedTuple):
    """Everything of an image that depends on its codes alone: computed once, used by all passes and chunks."""

    films: Films
    inr: list[tuple[Tensor, Tensor]]


class Generator(nn.Module):
    """Images from a shape code, an appearance code and a camera (paper section 3; official `GeneratorNerfINR`).

    impl is "auto", "fused" or "reference" for every op of `cips3d_ext`. The mean styles for truncation,
    `mean_w_shape` and `mean_w_appearance` [1,W], are filled on first use, may be assigned, and are in no state dict.
    """

    mean_w_shape: Tensor | None
    mean_w_appearance: Tensor | None

    def __init__(self, config: GeneratorConfig, impl: str = "auto") -> None:
        super().__init__()
        self.config, self.impl = config, impl
        self.shape_mapping = MappingNetwork(
            config.z_shape_dim, config.shape_style_dim, config.shape_mapping_layers, layer_norm=False
        )
        self.appearance_mapping = MappingNetwork(
            config.z_appearance_dim, config.appearance_style_dim, config.appearance_mapping_layers, layer_norm=True
        )
        self.field = make_field(config, impl)
        self.inr = Inr(
            config.feature_dim,
            config.inr_width,
            config.inr_blocks,
            config.appearance_style_dim,
            config.rgb_blocks,
            config.skip_blocks,
            impl,
        )
        self.aux_rgb = nn.Linear(config.feature_dim, 3)
        bound = math.sqrt(6 / config.feature_dim) / AUX_INIT_DIVISOR
        nn.init.uniform_(self.aux_rgb.weight, -bound, bound)
        self.register_buffer("mean_w_shape", None, persistent=False)
        self.register_buffer("mean_w_appearance", None, persistent=False)
        self.register_load_state_dict_post_hook(_forget_mean_styles)

    def forward(self, z_shape: Tensor, z_appearance: Tensor, camera: Camera, **options: Any) -> RenderOutput:
        """`render`, for callers that go through the module call (DistributedDataParallel, hooks)."""
        return self.render(z_shape, z_appearance, camera, **options)

    def render(
        self,
        z_shape: Tensor,
        z_appearance: Tensor,
        camera: Camera,
        resolution: int = 64,
        samples_per_ray: int = 12,
        truncation_psi: float = 1.0,
        **options: Any,
    ) -> RenderOutput:
        """`synthesise` of the styles of z_shape [B,Z] and z_appearance [B,Z'], standard normal; options as there.

        With truncation_psi w moves to the mean style: mean + psi * (w - mean). Raises ValueError where a shape, the
        camera's batch or an option does not fit.
        """
        self._check_codes("render", camera, z_shape=z_shape, z_appearance=z_appearance)
        styles = self.map(z_shape, z_appearance, truncation_psi)
        return self.synthesise(*styles, camera, resolution, samples_per_ray, **options)

    def synthesise(
        self,
        w_shape: Tensor,
        w_appearance: Tensor,
        camera: Camera,
        resolution: int = 64,
        samples_per_ray: int = 12,
        hierarchical: bool = True,
        draws: Draws | None = None,
        generator: torch.Generator | None = None,
        density_noise_std: float = 0.0,
        last_back: bool = False,
        white_back: bool = False,
        activation: str = "relu",
        ray_chunk: int | None = None,
        grad_rays: int | None = None,
    ) -> RenderOutput:
        """Square images, auxiliary images and depth maps of side `resolution`, and the samples' weights.

        w_shape [B,W], w_appearance [B,W'] or [B,K,W'] (one for each INR block); camera of batch B. Differentiable in
        the styles and the camera's cam2world.

        samples_per_ray, hierarchical   N even samples a ray, and as many again where the first ones found matter
        draws, generator                random numbers (see `Draws`); those not given are drawn from `generator`
        density_noise_std               spread of the normal noise on the density, 1/length (training)
        last_back, white_back           the ray's remaining weight goes to the last sample, or to a feature of ones
        activation                      of the density: relu or softplus
        ray_chunk                       renders so many rays at a time, without gradient: memory does not grow with
                                        the resolution, except for the outputs and draws of 4 * N numbers a ray
        grad_rays                       only the first grad_rays rays of the permutation carry gradient (all, if the
                                        image has no more); the others are rendered in chunks of ray_chunk

        Raises ValueError where a shape, the camera's batch or an option does not fit.
        """
        self._check_codes("synthesise", camera, w_shape=w_shape, w_appearance=w_appearance)
        for name, value in (("ray_chunk", ray_chunk), ("grad_rays", grad_rays)):
            if value is not None and value < 1:
                raise ValueError(f"synthesise: {name} must be at least 1 or None, got {value}")
        settings = VolumeSettings(
            near=self.config.near,
            far=self.config.far,
            samples=samples_per_ray,
            hierarchical=hierarchical,
            density_noise_std=density_noise_std,
            activation=activation,
            last_back=last_back,
            white_back=white_back,
        )
        ours = self.aux_rgb.weight
        rays = camera_rays(camera.to(ours.device, ours.dtype), resolution)
        count = resolution * resolution
        draws = complete_draws(
            draws,
            generator,
            batch=len(camera),
            rays=count,
            samples=samples_per_ray,
            hierarchical=hierarchical,
            noisy=density_noise_std > 0,
            permuted=grad_rays is not None and grad_rays < count,
            device=ours.device,
            dtype=ours.dtype,
        )
        styles = self.styles(w_shape, w_appearance)

        def pixels(index: slice | Tensor) -> Pixels:
            chosen = Rays(rays.origins[:, index], rays.directions[:, index])
            return self._pixels(styles, chosen, draws.take(index), settings)

        if draws.permutation is not None and grad_rays is not None:
            result = partly_differentiable_pixels(pixels, draws.permutation, grad_rays, ray_chunk)
        else:
            result = Pixels(*all_pixels(pixels, count, ray_chunk if grad_rays is None else None))
        return to_images(result, resolution)

    def map(self, z_shape: Tensor, z_appearance: Tensor, truncation_psi: float = 1.0) -> tuple[Tensor, Tensor]:
        """Styles w_shape [B,W] and w_appearance [B,W'] of codes [B,Z], [B,Z'], truncated towards the mean styles."""
        return self.truncate(self.shape_mapping(z_shape), self.appearance_mapping(z_appearance), truncation_psi)

    def truncate(self, w_shape: Tensor, w_appearance: Tensor, truncation_psi: float) -> tuple[Tensor, Tensor]:
        """Styles [B,W], [B,W'] moved to the mean styles: mean + psi * (w - mean)."""
        if truncation_psi == 1.0:
            return w_shape, w_appearance
        if self.mean_w_shape is None or self.mean_w_appearance is None:
            assigned = {"mean_w_shape": self.mean_w_shape, "mean_w_appearance": self.mean_w_appearance}
            self.update_mean_styles()
            for name, mean in assigned.items():
                if mean is not None:  # one assigned alone stays
                    setattr(self, name, mean)
        assert self.mean_w_shape is not None and self.mean_w_appearance is not None
        return (
            torch.lerp(self.mean_w_shape.to(w_shape), w_shape, truncation_psi),
            torch.lerp(self.mean_w_appearance.to(w_appearance), w_appearance, truncation_psi),
        )

    def styles(self, w_shape: Tensor, w_appearance: Tensor) -> Styles:
        """What the field and the INR need of the styles w."""
        return Styles(self.field.films(w_shape), self.inr.styles(w_appearance))

    @torch.no_grad()
    def update_mean_styles(self, n: int = 10000, seed: int = 0) -> None:
        """Fills `mean_w_shape` and `mean_w_appearance` with the means over n codes drawn from `seed`."""
        source = torch.Generator().manual_seed(seed)
        self.mean_w_shape = _mean_style(self.shape_mapping, n, source)
        self.mean_w_appearance = _mean_style(self.appearance_mapping, n, source)

    def nerf_colours(self, features: Tensor) -> Tensor:
        """The NeRF's own colours [...,3] in [-1,1] of features [...,C] by the auxiliary head."""
        return torch.tanh(self.aux_rgb(features))

    def nerf_parameters(self) -> list[nn.Parameter]:
        """The parameters a stage with frozen NeRF leaves alone: shape mapping, field and auxiliary head.

        A fixed positional encoding is not among them: it is no parameter of any stage.
        """
        never = list(self.field.layers[0].parameters()) if self.config.positional_encoding == "fixed" else []
        ours = (p for part in (self.shape_mapping, self.field, self.aux_rgb) for p in part.parameters())
        return [p for p in ours if not any(p is other for other in never)]

    def _pixels(self, styles: Styles, rays: Rays, draws: Draws, settings: VolumeSettings) -> Pixels:
        feature, depth, weights = render_features(self.field, styles.films, rays, draws, settings)
        return Pixels(self.inr(feature, styles.inr), self.nerf_colours(feature), depth, weights)

    def _check_codes(self, function: str, camera: Camera, **codes: Tensor) -> None:
        """Raises ValueError where a code's width, batch, dtype or device is not the configuration's or the camera's."""
        config, ours, batch = self.config, self.aux_rgb.weight, len(camera)
        widths = {
            "z_shape": config.z_shape_dim,
            "z_appearance": config.z_appearance_dim,
            "w_shape": config.shape_style_dim,
            "w_appearance": config.appearance_style_dim,
        }
        for name, code in codes.items():
            each_block = name == "w_appearance" and code.shape[1:-1] == (config.inr_blocks,)
            if not (code.ndim == 2 or each_block) or code.shape[-1] != widths[name]:
                raise ValueError(f"{function}: {name} must be [B,{widths[name]}], got {list(code.shape)}")
            if len(code) != batch:
                raise ValueError(
                    f"{function}: {name} has batch {len(code)} and the camera has batch {batch}; "
                    "give one camera for each code (Camera[index] repeats and selects)"
                )
            device = code.device.type
            autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
            if code.device != ours.device or (code.dtype != ours.dtype and not autocast):
                raise ValueError(
                    f"{function}: {name} is {code.dtype} on {code.device} and the generator {ours.dtype} on "
                    f"{ours.device}; give {name}.to(...) or move the generator"
                )


def _forget_mean_styles(generator: Generator, _: object) -> None:
    """Loaded weights have other mean styles."""
    generator.mean_w_shape = generator.mean_w_appearance = None


def _mean_style(mapping: MappingNetwork, n: int, source: torch.Generator) -> Tensor:
    """Mean style [1,W] of n codes, mapped a batch at a time."""
    example = next(mapping.parameters())
    total = example.new_zeros(1, mapping.width)
    for start in range(0, n, MEAN_STYLE_BATCH):
        z = torch.randn(min(MEAN_STYLE_BATCH, n - start), mapping.z_dim, generator=source)
        total += mapping(z.to(example)).sum(0, keepdim=True)
    return total / n
