"""What every model offers to training, the command line, metrics, inversion and meshes.

A generator says how styles become a field, how rays are traced through it, and how traced pixels become a picture; the
base renders with that: whole, in chunks of rays, or with gradients for a part of the rays. Axes: B batch, R rays, N
points, C channels of a traced pixel, K of a coloured one, S side of the picture, s side of the traced one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from cips3d.render.draws import Draws, complete_draws
from cips3d.render.image import Pixels, RenderOutput, all_pixels, partly_differentiable_pixels, to_images
from cips3d.render.rays import Camera, Rays, camera_rays
from cips3d.render.volume import VolumeSettings
from cips3d_ext import RenderRaysOutput, SirenFieldOutput

MEAN_STYLE_BATCH = 1000  # codes mapped at a time by update_mean_styles


class BaseGeneratorConfig(Protocol):
    """What all configurations of generators have; lengths in world units, the camera at distance 1."""

    @property
    def model(self) -> str: ...  # key of `cips3d.models.registry.MODELS`
    @property
    def z_shape_dim(self) -> int: ...
    @property
    def z_appearance_dim(self) -> int: ...  # 0: one code decides shape and appearance
    @property
    def shape_style_dim(self) -> int: ...
    @property
    def appearance_style_dim(self) -> int: ...
    @property
    def box_side(self) -> float: ...  # of the cube that the field fills
    @property
    def near(self) -> float: ...
    @property
    def far(self) -> float: ...
    @property
    def most_layers(self) -> int: ...  # of one kind, each with tensors of its own


class Styles(NamedTuple):
    """Everything of an image that depends on its codes alone: computed once, used by all passes and chunks."""

    field: Any  # what tracing takes: films, planes, a feature volume
    painter: Any  # what colouring and upsampling take


class Mapping(NamedTuple):
    """A function from codes [B,z_dim] to styles [B,W]; `like` has their dtype and device."""

    z_dim: int
    styles: Callable[[Tensor], Tensor]
    like: Tensor


class BaseGenerator(nn.Module, ABC):
    """Images from a shape code, an appearance code and a camera; without the latter code its tensors are [B,0].

    impl is "auto", "fused" or "reference" for every op of `cips3d_ext`. The mean styles for truncation,
    `mean_w_shape` and `mean_w_appearance` [1,W], are filled on first use, may be assigned, and are in no state dict.
    """

    activation = "relu"  # of `density`, a name of `cips3d_ext.volume_render`
    free_side = True  # whether it draws pictures of any side, or of its training's alone
    mean_w_shape: Tensor | None
    mean_w_appearance: Tensor | None

    def __init__(self, config: BaseGeneratorConfig, impl: str = "auto") -> None:
        super().__init__()
        self.config: Any = config  # the model's own class, with more than the protocol's fields
        self.impl = impl
        self.register_buffer("mean_w_shape", None, persistent=False)
        self.register_buffer("mean_w_appearance", None, persistent=False)
        self.register_load_state_dict_post_hook(_forget_mean_styles)

    # What a model says.

    # How many layers may each have a style of their own, [B,K,W] and [B,K,W'].
    shape_layers = appearance_layers = 0

    @abstractmethod
    def map_shape(self, z_shape: Tensor, pose: Camera | None = None) -> Tensor:
        """Styles [B,W] of codes [B,Z], for models that are conditioned on a pose also of `pose`."""

    def map_appearance(self, z_appearance: Tensor) -> Tensor:
        """Styles [B,W'] of codes [B,Z'], or of [B,Z] where there are no such codes but such styles, or [B,0]."""
        return z_appearance

    @abstractmethod
    def field_of(self, w_shape: Tensor, noise: tuple[Tensor, ...] | None = None) -> Any:
        """What the field needs of styles [B,W]; `noise` as in `noise_shapes`, None: nothing random."""

    @abstractmethod
    def painter_of(self, w_shape: Tensor, w_appearance: Tensor) -> Any:
        """What `colours` and `upsample` need of the styles."""

    @abstractmethod
    def trace(self, field: Any, rays: Rays, draws: Draws, settings: VolumeSettings) -> RenderRaysOutput:
        """Rays [B,R,3] through the field, each for itself: feature [B,R,C], depth [B,R], weights [B,R,M]."""

    @abstractmethod
    def query(self, field: Any, points: Tensor, directions: Tensor | None = None) -> SirenFieldOutput:
        """Features [B,N,C] and density [B,N] at points [B,N,3]; directions [B,R,3] where colours depend on them."""

    @abstractmethod
    def density(self, field: Any, points: Tensor) -> Tensor:
        """The density [B,*] before `activation`, 1/length, at points [B,*,3]; differentiable twice."""

    @abstractmethod
    def colours(self, painter: Any, feature: Tensor) -> Tensor:
        """Traced pixels [B,R,C] coloured [B,R,K], each for itself; K is 3 unless `upsample` goes on with them."""

    @abstractmethod
    def nerf_colours(self, feature: Tensor) -> Tensor:
        """The NeRF's own colours [...,3] in [-1,1] of features [...,C]."""

    @abstractmethod
    def mapping_parameters(self) -> list[nn.Parameter]:
        """The parameters that turn codes into styles."""

    @abstractmethod
    def nerf_parameters(self) -> list[nn.Parameter]:
        """The parameters that a stage with frozen NeRF leaves alone."""

    @abstractmethod
    def adjust_init(self, density_bias: float, density_gain: float, shape_gain: float) -> None:
        """Change the initial weights as `cips3d.config.training.InitConfig` says; 0, 1, 1 change nothing."""

    def rays(self, camera: Camera, side: int) -> Rays:
        """Rays [B,side^2,3] through the pixels."""
        return camera_rays(camera, side)

    def ray_side(self, resolution: int, shown: int | None = None) -> int:
        """Rays along a side of a picture of side `resolution`, in training after `shown` images.

        Raises ValueError for sides that there are no layers for.
        """
        return resolution

    def upsample(
        self,
        painter: Any,
        pixels: Tensor,
        nerf_image: Tensor,
        resolution: int,
        noise: tuple[Tensor, ...] | None,
        alpha: float,
    ) -> Tensor:
        """The image [B,3,S,S] in [-1,1] of coloured pixels [B,K,s,s] and the NeRF's own image [B,3,s,s].

        `noise` as in `field_of`; alpha < 1 fades the newest layers in.
        """
        return pixels

    @property
    def upsamples(self) -> bool:
        """Whether `upsample` does anything, so that pixels are no colours yet."""
        return type(self).upsample is not BaseGenerator.upsample

    def noise_shapes(self, resolution: int) -> tuple[tuple[int, ...], ...]:
        """Shapes, without B, of the normal numbers that layers take in training (`Draws.layer_noise`)."""
        return ()

    def condition(self, camera: Camera, shown: int, generator: torch.Generator) -> Camera | None:
        """The poses that a training batch is mapped with; `shown`: training images seen so far."""
        return None

    def draw_mixing(self, batch: int, generator: torch.Generator) -> Tensor | None:
        """Random numbers [B,M] that `map_training` takes."""
        return None

    def map_training(
        self, z_shape: Tensor, z_appearance: Tensor, pose: Camera | None, mixing: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The styles of a training batch: `map`, unless the model mixes them."""
        return self.map(z_shape, z_appearance, pose=pose)

    def mappings(self, pose: Camera | None = None) -> tuple[Mapping, Mapping]:
        """Both halves of `map`, for a search among styles; a half without styles has none to find."""
        config = self.config
        return (
            Mapping(config.z_shape_dim, lambda z: self.map_shape(z, pose), self._example),
            Mapping(self._appearance_codes, self.map_appearance, self._example),
        )

    # What follows for all of them.

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
        pose: Camera | None = None,
        **options: Any,
    ) -> RenderOutput:
        """`synthesise` of the styles of z_shape [B,Z] and z_appearance [B,Z'], standard normal; options as there.

        With truncation_psi w moves to the mean style: mean + psi * (w - mean); `pose` as in `map`. Raises ValueError
        where a shape, the camera's batch or an option does not fit.
        """
        self._check_codes("render", camera, z_shape=z_shape, z_appearance=z_appearance)
        styles = self.map(z_shape, z_appearance, truncation_psi, pose)
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
        activation: str | None = None,
        ray_chunk: int | None = None,
        grad_rays: int | None = None,
        alpha: float = 1.0,
        shown: int | None = None,
    ) -> RenderOutput:
        """Square images of side `resolution`, auxiliary images and depth maps, and the samples' weights.

        w_shape [B,W], w_appearance [B,W'], or [B,K,W'] where each layer (INR block) may have its own; camera of batch
        B. Differentiable in the styles and the camera's cam2world.

        samples_per_ray, hierarchical   N even samples a ray, and as many again where the first ones found matter
        draws, generator                random numbers (see `Draws`); those not given are drawn from `generator`
        density_noise_std               spread of the normal noise on the density, 1/length (training)
        last_back, white_back           the ray's remaining weight goes to the last sample, or to a feature of ones
        activation                      of the density: relu or softplus (None: the model's)
        ray_chunk                       renders so many rays at a time, without gradient: memory does not grow with
                                        the resolution, except for the outputs and draws of 4 * N numbers a ray
        grad_rays                       only the first grad_rays rays of the permutation carry gradient (all, if the
                                        image has no more); the others are rendered in chunks of ray_chunk
        alpha, shown                    in training: of `upsample`, and of `ray_side`

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
            activation=activation or self.activation,
            last_back=last_back,
            white_back=white_back,
        )
        ours, side = self._example, self.ray_side(resolution, shown)
        rays, count = self.rays(camera.to(ours.device, ours.dtype), side), side * side
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
        styles = self.styles(w_shape, w_appearance, draws.layer_noise)

        def pixels(index: slice | Tensor) -> Pixels:
            chosen = Rays(rays.origins[:, index], rays.directions[:, index])
            feature, depth, weights = self.trace(styles.field, chosen, draws.take(index), settings)
            return Pixels(self.colours(styles.painter, feature), self.nerf_colours(feature), depth, weights)

        if draws.permutation is not None and grad_rays is not None:
            result = partly_differentiable_pixels(pixels, draws.permutation, grad_rays, ray_chunk)
        else:
            result = Pixels(*all_pixels(pixels, count, ray_chunk if grad_rays is None else None))
        traced = to_images(result, side)
        image = self.upsample(styles.painter, traced.image, traced.aux_image, resolution, draws.layer_noise, alpha)
        return traced._replace(image=image)

    def styles(self, w_shape: Tensor, w_appearance: Tensor, noise: tuple[Tensor, ...] | None = None) -> Styles:
        """What tracing and painting need of the styles w."""
        return Styles(self.field_of(w_shape, noise), self.painter_of(w_shape, w_appearance))

    def map(
        self, z_shape: Tensor, z_appearance: Tensor, truncation_psi: float = 1.0, pose: Camera | None = None
    ) -> tuple[Tensor, Tensor]:
        """Styles w_shape [B,W] and w_appearance [B,W'] of codes [B,Z], [B,Z'], truncated towards the mean styles.

        `pose` is what models are mapped with that are conditioned on the camera's pose; others ignore it.
        """
        both = self.config.appearance_style_dim and not self.config.z_appearance_dim
        w_appearance = self.map_appearance(z_shape if both else z_appearance)
        return self.truncate(self.map_shape(z_shape, pose), w_appearance, truncation_psi)

    def by_layer(self, w_shape: Tensor, w_appearance: Tensor) -> tuple[Tensor, Tensor]:
        """Styles [B,L,W], [B,K,W'] of each layer, where layers may have their own; the others as they are."""

        def each(w: Tensor, layers: int) -> Tensor:
            return w[:, None].expand(-1, layers, -1) if layers and w.ndim == 2 else w

        return each(w_shape, self.shape_layers), each(w_appearance, self.appearance_layers)

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

    @torch.no_grad()
    def update_mean_styles(self, n: int = 10000, seed: int = 0) -> None:
        """Fills `mean_w_shape` and `mean_w_appearance` with the means over n codes drawn from `seed`."""
        source = torch.Generator().manual_seed(seed)
        self.mean_w_shape = self._mean_style(self.map_shape, self.config.z_shape_dim, n, source)
        self.mean_w_appearance = self._mean_style(self.map_appearance, self._appearance_codes, n, source)

    @property
    def _example(self) -> Tensor:
        """A parameter, for dtype and device."""
        return next(self.parameters())

    @property
    def _appearance_codes(self) -> int:
        """Width of what `map_appearance` takes."""
        config = self.config
        return config.z_appearance_dim or (config.z_shape_dim if config.appearance_style_dim else 0)

    def _mean_style(self, mapping: Callable[[Tensor], Tensor], dim: int, n: int, source: torch.Generator) -> Tensor:
        """Mean style [1,W] of n codes, mapped a batch at a time."""
        total: Any = 0.0
        for start in range(0, n, MEAN_STYLE_BATCH):
            z = torch.randn(min(MEAN_STYLE_BATCH, n - start), dim, generator=source)
            total = total + mapping(z.to(self._example)).sum(0, keepdim=True)
        return total / n

    def _check_codes(self, function: str, camera: Camera, **codes: Tensor) -> None:
        """Raises ValueError where a code's width, batch, dtype or device is not the configuration's or the camera's."""
        config, ours, batch = self.config, self._example, len(camera)
        widths = {
            "z_shape": config.z_shape_dim,
            "z_appearance": config.z_appearance_dim,
            "w_shape": config.shape_style_dim,
            "w_appearance": config.appearance_style_dim,
        }
        for name, code in codes.items():
            if not self._fits(name, code) or code.shape[-1] != widths[name]:
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

    def _fits(self, name: str, code: Tensor) -> bool:
        """Whether a code has the axes of `name`."""
        layers = {"w_shape": self.shape_layers, "w_appearance": self.appearance_layers}.get(name, 0)
        return code.ndim == 2 or (layers > 0 and code.shape[1:-1] == (layers,))


def _forget_mean_styles(generator: BaseGenerator, _: object) -> None:
    """Loaded weights have other mean styles."""
    generator.mean_w_shape = generator.mean_w_appearance = None
