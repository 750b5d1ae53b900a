"""A trained generator together with what it was trained for: from a run, a model file or an official state dict."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cips3d.config.loader import ConfigError
from cips3d.config.training import CameraConfig, RenderConfig, TrainingConfig, load_training, read_training
from cips3d.models.base import BaseGenerator
from cips3d.models.public import PublicModel, load_public
from cips3d.models.registry import GeneratorConfigs, make_generator
from cips3d.models.view import view
from cips3d.render import Camera
from cips3d.render.trajectories import Swing
from cips3d.render.volume import VolumeSettings
from cips3d.training.checkpoint import LATEST, load_checkpoint
from cips3d.training.model_file import SUFFIX, ModelConfig, read_model_file, write_model_file

RAYS_AT_A_TIME = 64 * 64 * 4  # of all images of a batch: bounds the memory at any resolution


@dataclass(frozen=True)
class TrainedModel:
    """`generator` with the pose distribution, sampling and image side (pixels) of its training."""

    generator: BaseGenerator
    camera: CameraConfig
    render: RenderConfig
    resolution: int

    @property
    def device(self) -> torch.device:
        return next(self.generator.parameters()).device

    def codes(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Shape and appearance codes [count,Z], [count,Z'] of `seed`, the same on every device."""
        source, config = torch.Generator().manual_seed(seed), self.generator.config
        z_shape = torch.randn(count, config.z_shape_dim, generator=source)
        return z_shape.to(self.device), torch.randn(count, config.z_appearance_dim, generator=source).to(self.device)

    @torch.no_grad()
    def styles(self, count: int, seed: int, truncation_psi: float = 1.0) -> tuple[Tensor, Tensor]:
        """The styles w_shape, w_appearance [count,W], [count,W'] of the codes of `seed`."""
        return self.map(*self.codes(count, seed), truncation_psi)

    @torch.no_grad()
    def map(
        self, z_shape: Tensor, z_appearance: Tensor, truncation_psi: float = 1.0, pose: Camera | None = None
    ) -> tuple[Tensor, Tensor]:
        """Styles of codes; models that are conditioned on a pose get `pose`, or the mean one of the training."""
        pose = self.camera_at(torch.zeros(len(z_shape))) if pose is None else pose
        return self.generator.map(z_shape, z_appearance, truncation_psi, pose.to(self.device))

    def poses(self, count: int, seed: int) -> Camera:
        """Cameras from the training distribution."""
        pose = self.camera
        return Camera.sample(
            count,
            pose.yaw_mean,
            pose.yaw_std,
            pose.pitch_mean,
            pose.pitch_std,
            pose.distribution,
            generator=torch.Generator().manual_seed(seed),
            fov_deg=pose.fov_deg,
        )

    def camera_at(self, yaw: Tensor, pitch: Tensor | float = 0.0) -> Camera:
        """Cameras turned by `yaw` and `pitch` (rad, [B]) away from the mean pose."""
        pose = self.camera
        return Camera.from_angles(pose.yaw_mean + yaw, pose.pitch_mean + pitch, fov_deg=pose.fov_deg)

    def yaws(self, count: int, spreads: float) -> Tensor:
        """`count` yaw offsets [count], evenly over +-`spreads` standard deviations of the training poses."""
        limit = spreads * self.camera.yaw_std
        return torch.linspace(-limit, limit, count) if count > 1 else torch.zeros(1)

    def style_views(
        self,
        w_shape: Tensor,
        w_appearance: Tensor,
        camera: Camera,
        panels: Sequence[str] = ("inr",),
        resolution: int | None = None,
        samples: int | None = None,
    ) -> dict[str, Tensor]:
        """The panels of `cips3d.models.view.view`; side S and samples a ray are those of the training by default."""
        size, config, render = resolution or self.resolution, self.generator.config, self.render
        settings = VolumeSettings(
            near=config.near,
            far=config.far,
            samples=samples or render.samples_per_ray,
            hierarchical=render.hierarchical,
            density_noise_std=0.0,
            activation=self.generator.activation,
            last_back=render.last_back,
            white_back=render.white_back,
        )
        batch = max(1, RAYS_AT_A_TIME // size**2)
        parts = []
        for start in range(0, len(w_shape), batch):
            part = slice(start, start + batch)
            codes = w_shape[part], w_appearance[part], camera[part]
            parts.append(view(self.generator, *codes, panels, size, settings, RAYS_AT_A_TIME))
        return {name: torch.cat([part[name] for part in parts]) for name in panels}

    @torch.no_grad()
    def views(
        self,
        z_shape: Tensor,
        z_appearance: Tensor,
        camera: Camera,
        panels: Sequence[str],
        resolution: int | None = None,
        truncation_psi: float = 1.0,
        samples: int | None = None,
        pose: Camera | None = None,
    ) -> dict[str, Tensor]:
        """`style_views` of codes, mapped as in `map`."""
        styles = self.map(z_shape, z_appearance, truncation_psi, pose)
        return self.style_views(*styles, camera, panels, resolution, samples)

    def images(
        self,
        z_shape: Tensor,
        z_appearance: Tensor,
        camera: Camera,
        resolution: int | None = None,
        truncation_psi: float = 1.0,
        pose: Camera | None = None,
    ) -> Tensor:
        """Images [B,3,S,S] in [-1,1], float32 on the CPU, without noise: equal arguments give equal pixels."""
        return self.views(z_shape, z_appearance, camera, ("inr",), resolution, truncation_psi, pose=pose)["inr"]

    def swing(self, yaw_spreads: float, pitch_spreads: float) -> Swing:
        """What a camera path moves about: the mean pose, and so many standard deviations of the training poses."""
        pose = self.camera
        reach = yaw_spreads * pose.yaw_std, pitch_spreads * pose.pitch_std
        return Swing(pose.yaw_mean, pose.pitch_mean, *reach, fov_deg=pose.fov_deg)

    def turned(self, styles: tuple[Tensor, Tensor], yaws: Tensor, resolution: int | None = None) -> Tensor:
        """Images [B * len(yaws),3,S,S] of B pairs of styles: head by head, each at all `yaws` (offsets, rad)."""
        heads = len(styles[0])
        w_shape, w_appearance = (w.repeat_interleave(len(yaws), 0) for w in styles)
        camera = self.camera_at(yaws.repeat(heads))
        return self.style_views(w_shape, w_appearance, camera, resolution=resolution)["inr"]

    def side_up_to(self, limit: int) -> int:
        """The side in pixels of pictures that should not be larger than `limit`, where the model draws others."""
        return min(self.resolution, limit) if self.generator.free_side else self.resolution

    def save(self, path: Path, comment: str = "") -> None:
        """Write a .safetensors file that `load_model` reads; `comment` says what made it."""
        config = ModelConfig(self.generator.config, self.camera, self.render, self.resolution)
        write_model_file(path, config, self.generator.state_dict(), comment)


def read_run(path: Path) -> tuple[TrainingConfig, dict[str, Any]]:
    """Configuration and state of the run folder, or of the checkpoint in one, at `path`.

    Raises ConfigError or CheckpointError naming what is missing or damaged.
    """
    if not path.exists():
        raise ConfigError(f"there is no run {path}; wanted a run folder of `cips3d train`, or the checkpoint in it")
    run_dir = path if path.is_dir() else path.parent.parent
    return read_training(run_dir / "config.yaml"), load_checkpoint(run_dir / LATEST)


def load_model(path: Path, device: str = "cpu", impl: str = "auto") -> TrainedModel:
    """The model in `path`: a run folder of `cips3d train` or the checkpoint in it (the averaged weights), a
    .safetensors file of `TrainedModel.save`, or an official generator state dict.

    Raises ConfigError or CheckpointError naming what is missing or damaged.
    """
    if path.is_dir() or path.name == LATEST.name:
        run, state = read_run(path)
        last = run.at_stage(len(run.schedule.stages) - 1)
        render = dataclasses.replace(run.render, samples_per_ray=last.render.samples_per_ray)
        config = ModelConfig(run.generator, run.camera, render, run.schedule.resolution)
        generator = _load_generator(config.generator, state["ema"], path, impl)
    elif path.suffix == SUFFIX and path.is_file():
        config, weights = read_model_file(path)
        generator = _load_generator(config.generator, weights, path, impl)
    elif path.is_file():
        generator, public = _load_public_generator(path, impl)
        preset = load_training(public.preset)
        config = ModelConfig(generator.config, preset.camera, preset.render, public.resolution)
    else:
        raise ConfigError(
            f"there is no model {path}; wanted a run folder of `cips3d train`, a {SUFFIX} file of `cips3d export`, or "
            "an official .pth file"
        )
    generator = generator.eval().requires_grad_(False).to(device)
    return TrainedModel(generator, config.camera, config.render, config.resolution)


def _load_generator(config: GeneratorConfigs, weights: dict[str, Tensor], path: Path, impl: str) -> BaseGenerator:
    # Without storage at first: a damaged configuration must not take memory for networks that the weights do not fit.
    with torch.device("meta"):
        generator = make_generator(config, impl)
    try:
        generator.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise ConfigError(f"the weights in {path} do not fit its configuration: {error}") from error
    return generator


def _load_public_generator(path: Path, impl: str) -> tuple[BaseGenerator, PublicModel]:
    try:
        return load_public(path, impl)
    except (ValueError, RuntimeError, OSError) as error:
        raise ConfigError(f"{path} is no official generator: {str(error).splitlines()[0]}") from error
