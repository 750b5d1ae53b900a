"""Configuration of a training run; presets/training/*.yaml hold the values and say where they come from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from cips3d.config.loader import ConfigError, build, load_preset, override, read_yaml, to_mapping
from cips3d.models.discriminator import DiscriminatorConfig
from cips3d.models.generator_config import GeneratorConfig


@dataclass(frozen=True)
class DataConfig:
    """Where real images come from: `source` is what `cips3d.data.open_dataset` takes (a name, a folder or a zip)."""

    source: str
    size: int = 10_000  # of synthetic-heads: how many images it has
    seed: int = 0  # of synthetic-heads: which population
    xflip: bool = False  # add every image's mirror image


@dataclass(frozen=True)
class CameraConfig:
    """Distribution of the generator's camera poses, in rad (`Camera.sample`); must equal that of the images."""

    yaw_mean: float
    yaw_std: float
    pitch_mean: float
    pitch_std: float
    distribution: str
    fov_deg: float


@dataclass(frozen=True)
class InitConfig:
    """Changes to the generator's initial weights; the defaults change nothing.

    At the released initialisation the density is near 0 and a ray's weight falls on its last sample: training begins
    with a picture painted on a wall behind the head, which turns the wrong way, and needs long to leave it. Beginning
    with fog (bias) that is easily carved (gain), short trainings find a head that turns with its camera. Beginning with
    shapes that differ less (shape gain), they find no hollow faces for some of the codes.
    """

    density_bias: float = 0.0  # added to the density's bias, 1/length
    density_gain: float = 1.0  # multiplies the density's weights
    shape_gain: float = 1.0  # multiplies the weights of the shape mapping's last layer


@dataclass(frozen=True)
class RenderConfig:
    """How the generator renders during training (`Generator.render`)."""

    samples_per_ray: int
    hierarchical: bool
    last_back: bool = False
    white_back: bool = False
    grad_rays: int | None = None  # rays an image that carry gradient in the G step; null: all
    density_noise_steps: int = 5000  # the noise's spread falls linearly from 1 to 0 over these steps; 0: no noise


@dataclass(frozen=True)
class LossConfig:
    """Adversarial loss (paper section 3.4)."""

    r1_weight: float
    r1_every: int = 1  # steps between penalties, each then weighs r1_every times as much
    use_aux: bool = True  # the auxiliary discriminator sees the NeRF's own colours
    diff_augment: bool = False


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam for both networks, gradient clipping, EMA."""

    batch_size: int
    g_lr: float
    d_lr: float
    betas: tuple[float, float] = (0.0, 0.999)
    clip_norm: float = 10.0
    ema_decay: float = 0.999
    ema_start: int = 1000
    precision: Literal["off", "bf16"] = "off"


@dataclass(frozen=True)
class ScheduleConfig:
    """How long, and at which resolutions. Training ends at `steps` or after `minutes`, whichever comes first.

    `resolutions` are passed through in order, each for an equal part of the time unless `resolution_shares` (one number
    each, summing to 1) says otherwise; a new one is faded in over `fade_steps` steps of the discriminator, and both
    learning rates are multiplied by its entry of `lr_factors` (default: all 1). `last_step` ends the training at
    another step than `steps` and moves no resolution, so that a run in parts is the whole run.
    """

    steps: int
    resolutions: tuple[int, ...]
    minutes: float | None = None
    resolution_shares: tuple[float, ...] | None = None
    lr_factors: tuple[float, ...] | None = None
    fade_steps: int = 0
    last_step: int | None = None

    def __post_init__(self) -> None:
        shares = self.resolution_shares
        if not self.resolutions or (shares is not None and len(shares) != len(self.resolutions)):
            raise ValueError(f"schedule: wanted one share for each resolution of {self.resolutions}, got {shares}")
        if shares is not None and (min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6):
            raise ValueError(f"schedule: resolution_shares must be positive and sum to 1, got {shares}")
        factors = self.lr_factors
        if factors is not None and (len(factors) != len(self.resolutions) or min(factors) <= 0):
            raise ValueError(f"schedule: lr_factors must be one factor > 0 for each resolution, got {factors}")

    @property
    def end(self) -> int:
        """The step at which training ends, unless `minutes` end it before."""
        return self.steps if self.last_step is None else self.last_step

    def lr_factor(self, stage: int) -> float:
        """What both learning rates are multiplied by at resolution number `stage`."""
        return 1.0 if self.lr_factors is None else self.lr_factors[stage]

    def stage(self, progress: float) -> int:
        """Index of the resolution at `progress` in [0,1], the part of the training that has passed."""
        count = len(self.resolutions)
        shares = self.resolution_shares or (1 / count,) * count
        return next((i for i in range(count) if progress < sum(shares[: i + 1])), count - 1)


@dataclass(frozen=True)
class OutputConfig:
    """How often things are written, in steps."""

    log_every: int = 50
    sample_every: int = 1000
    checkpoint_every: int = 1000
    sample_rows: int = 4  # the sample grid has this many rows and columns


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides a training run, except where it runs and its seed."""

    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    data: DataConfig
    camera: CameraConfig
    render: RenderConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    init: InitConfig = InitConfig()
    output: OutputConfig = OutputConfig()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.loss.use_aux and not self.discriminator.aux_channels:
            raise ValueError(
                "loss.use_aux is true but discriminator.aux_channels is empty; give channels or set it false"
            )
        largest = max(self.schedule.resolutions)
        if largest > self.discriminator.max_size:
            raise ValueError(
                f"schedule.resolutions goes up to {largest} but discriminator.main_channels reach only "
                f"{self.discriminator.max_size} pixels; add channels"
            )


# What may change when a run goes on: how long it takes, how often it writes, and where the same images lie.
CHANGEABLE = ("schedule.steps", "schedule.last_step", "schedule.minutes", "output", "data.source")


def load_training(name: str, assignments: Iterable[str] = ()) -> TrainingConfig:
    """The training preset `name` with `key=value` overrides; its generator preset is filled in first.

    So `generator.inr_width=64` changes one value of the generator, and `generator=paper` takes another generator.
    """
    mapping = load_preset("training", name)
    early = [a for a in assignments if a.startswith("generator=")]
    late = [a for a in assignments if not a.startswith("generator=")]
    mapping = override(mapping, early)
    if isinstance(mapping.get("generator"), str):
        mapping["generator"] = to_mapping(
            build(GeneratorConfig, load_preset("generator", mapping["generator"]), "generator")
        )
    # Completed with the defaults before overriding, so that every key can be set, not only those the preset writes.
    config = build(TrainingConfig, mapping, f"training preset {name}")
    return build(TrainingConfig, override(to_mapping(config), late), f"training preset {name}")


def read_training(path: Path) -> TrainingConfig:
    """A configuration that `write_training` wrote."""
    return build(TrainingConfig, read_yaml(path), str(path))


def write_training(config: TrainingConfig, path: Path) -> None:
    """The whole configuration as YAML."""
    path.write_text(yaml.safe_dump(to_mapping(config), sort_keys=False), encoding="utf-8")


def check_same_run(config: TrainingConfig, path: Path) -> None:
    """Raises ConfigError naming every value in which `config` differs from the run configured in `path`."""
    ours, theirs = _flat(to_mapping(config)), _flat(to_mapping(read_training(path)))
    changed = [
        f"{key}: {theirs[key]} there, {ours[key]} now"
        for key in ours
        if ours[key] != theirs[key] and not any(key == c or key.startswith(f"{c}.") for c in CHANGEABLE)
    ]
    if changed:
        raise ConfigError(
            f"the run in {path.parent} was started with other values ({'; '.join(changed)}); "
            "give the same ones to go on, or another --run-dir to start anew"
        )


def replace(config: TrainingConfig, section: str, **changes: Any) -> TrainingConfig:
    """A copy with some values of one section changed."""
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **changes)})


def _flat(mapping: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in mapping.items():
        result |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result
