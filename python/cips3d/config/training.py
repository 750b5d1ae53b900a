"""Configuration of a training run; presets/training/*.yaml hold the values and say where they come from."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

import cips3d_ext
from cips3d.config.loader import ConfigError, build, load_preset, override, read_yaml, to_mapping
from cips3d.files import written_whole
from cips3d.models.registry import DiscriminatorConfigs, GeneratorConfigs


@dataclass(frozen=True)
class DataConfig:
    """Where real images come from: `source` is what `open_dataset` takes (a name, a folder, a zip, shards)."""

    source: str
    size: int = 10_000  # of procedural heads: how many images there are
    seed: int = 0  # of procedural heads: which population
    xflip: bool = False  # add every image's mirror image
    workers: int = 0  # processes a rank that decode ahead; changes no batch
    corrupt: Literal["stop", "skip"] = (
        "stop"  # an image that cannot be decoded stops the run, or another takes its place
    )

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"data.workers must be at least 0, got {self.workers}")


@dataclass(frozen=True)
class CameraConfig:
    """Distribution of the generator's camera poses, in rad (`Camera.sample`); must equal that of the images.

    With `from_data` training draws the poses of its fakes from the labels of the images, where they have such, and the
    distribution serves all else.
    """

    yaw_mean: float
    yaw_std: float
    pitch_mean: float
    pitch_std: float
    distribution: str
    fov_deg: float
    from_data: bool = False


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
    # The generator learns from the fakes alone that the discriminator takes best (arXiv 2002.06224, pi-GAN): a part of
    topk_decay: float = 0.99  # the batch that falls by this factor
    topk_every: int = 0  # every so many steps (0: all fakes, always)
    topk_least: float = 1.0  # down to this part

    def __post_init__(self) -> None:
        if not 0 < self.topk_decay <= 1 or not 0 < self.topk_least <= 1 or self.topk_every < 0:
            raise ValueError(
                "loss: topk_decay and topk_least must be in (0,1] and topk_every at least 0, got "
                f"{self.topk_decay}, {self.topk_least} and {self.topk_every}"
            )

    def kept(self, step: int) -> float:
        """The part of the fakes, the best ones, that the generator learns from at `step`."""
        return max(self.topk_decay ** (step / self.topk_every), self.topk_least) if self.topk_every else 1.0


@dataclass(frozen=True)
class RegulariserConfig:
    """Weights of optional terms of the generator's loss (`cips3d.training.regularisers`), 0: off. Not in the paper."""

    pose_weight: float = 0.0  # an encoder must see the commanded pose in the picture
    style_weight: float = 0.0  # and the appearance code
    perceptual_weight: float = 0.0  # the INR's image must look like the NeRF's own to a feature network
    perceptual_network: str | None = None  # file of torchvision's vgg16 state dict
    density_weight: float = 0.0  # the density must not change over short distances
    normal_weight: float = 0.0  # nor its gradient's direction
    eikonal_weight: float = 0.0  # its gradient must be as long everywhere, which is
    # this slope, 1/length^2: matter that gets denser so fast dims a ray to 1/e within a sample's spacing of 0.02
    eikonal_slope: float = 5000.0
    path_length_weight: float = 0.0  # pictures must change as much with every step in w (arXiv 1912.04958),
    path_length_every: int = 4  # steps between these terms, each then weighs so many times as much
    path_length_shrink: int = 2  # taken of every second image of a batch, or third ...
    path_length_decay: float = 0.01  # how fast the mean length follows

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if name.endswith("_weight") and not value >= 0:
                raise ValueError(f"regularisers.{name} must be at least 0, got {value}")
        if self.path_length_every < 1 or self.path_length_shrink < 1 or not 0 < self.path_length_decay <= 1:
            raise ValueError(
                "regularisers: path_length_every and path_length_shrink must be at least 1 and path_length_decay in "
                f"(0,1], got {self.path_length_every}, {self.path_length_shrink} and {self.path_length_decay}"
            )
        if self.eikonal_slope <= 0:
            raise ValueError(f"regularisers.eikonal_slope must be above 0, got {self.eikonal_slope}")
        if self.perceptual_weight and self.perceptual_network is None:
            raise ValueError(
                "regularisers.perceptual_weight needs perceptual_network, the file of torchvision's vgg16 state dict "
                "(vgg16-397923af.pth)"
            )

    def weights(self) -> dict[str, float]:
        """The terms that are on, by name: {"pose": 15.0}."""
        values = dataclasses.asdict(self).items()
        return {name.removesuffix("_weight"): value for name, value in values if name.endswith("_weight") and value}


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
    channels_last: bool = False  # memory layout of the discriminators' weights and feature maps


@dataclass(frozen=True)
class StageConfig:
    """A part of the schedule: its resolution, its length, and what it does otherwise than the run (null: as the run).

    Weights, averaged weights and optimiser states go on from stage to stage. A stage with its own density_noise_steps
    anneals the noise anew from its start.
    """

    resolution: int
    share: float = 1.0  # its length as a part of the sum of all shares, of the run's steps or minutes
    fade_steps: int = 0  # over which the discriminator's layers for a new resolution are faded in
    batch_size: int | None = None
    samples_per_ray: int | None = None
    g_lr: float | None = None
    d_lr: float | None = None
    use_aux: bool | None = None
    diff_augment: bool | None = None
    grad_rays: int | None = None
    density_noise_steps: int | None = None
    freeze_nerf: bool = False  # shape mapping, field and auxiliary colours take their averaged weights and stay

    def __post_init__(self) -> None:
        if self.resolution < 1 or self.share <= 0:
            raise ValueError(
                f"schedule.stages: resolution and share must be > 0, got {self.resolution} and {self.share}"
            )


@dataclass(frozen=True)
class ScheduleConfig:
    """How long, and through which stages. Training ends at `steps` or after `minutes`, whichever comes first.

    `last_step` ends the training at another step than `steps` and moves no stage, so that a run in parts is the whole
    run.
    """

    steps: int
    stages: tuple[StageConfig, ...]
    minutes: float | None = None
    last_step: int | None = None

    def __post_init__(self) -> None:
        sides = [stage.resolution for stage in self.stages]
        if not sides or sides != sorted(sides):
            raise ValueError(f"schedule.stages must be at least one, of growing resolutions, got {sides}")

    @property
    def resolution(self) -> int:
        """Of the last stage, the largest."""
        return self.stages[-1].resolution

    @property
    def end(self) -> int:
        """The step at which training ends, unless `minutes` end it before."""
        return self.steps if self.last_step is None else self.last_step

    def stage_at(self, progress: float) -> int:
        """Index of the stage at `progress` in [0,1], the part of the training that has passed."""
        total, passed = sum(stage.share for stage in self.stages), 0.0
        for index, stage in enumerate(self.stages):
            passed += stage.share / total
            if progress < passed:
                return index
        return len(self.stages) - 1


@dataclass(frozen=True)
class OutputConfig:
    """How often things are written, in steps, and where besides the run folder."""

    log_every: int = 50
    sample_every: int = 1000
    checkpoint_every: int = 1000
    sample_rows: int = 4  # heads in a sample picture
    wandb: str | None = None  # project of Weights & Biases to log to as well (needs the package wandb)


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides a training run, except where it runs and its seed."""

    generator: GeneratorConfigs
    discriminator: DiscriminatorConfigs
    data: DataConfig
    camera: CameraConfig
    render: RenderConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    init: InitConfig = InitConfig()
    regularisers: RegulariserConfig = RegulariserConfig()
    output: OutputConfig = OutputConfig()
    seed: int = 0

    def __post_init__(self) -> None:
        with_aux = (self.loss.use_aux if stage.use_aux is None else stage.use_aux for stage in self.schedule.stages)
        if any(with_aux) and not self.discriminator.has_aux:
            raise ValueError("use_aux is true but discriminator.aux_channels is empty; give channels or set it false")
        if self.schedule.resolution > self.discriminator.max_size:
            raise ValueError(
                f"schedule.stages goes up to {self.schedule.resolution} but the discriminator's channels reach only "
                f"{self.discriminator.max_size} pixels; add channels"
            )

    def at_stage(self, index: int) -> TrainingConfig:
        """This configuration with the values of a stage in the place of the run's."""
        stage = self.schedule.stages[index]

        def chosen(section: Any, *names: str) -> Any:
            given = {name: getattr(stage, name) for name in names}
            return dataclasses.replace(section, **{name: v for name, v in given.items() if v is not None})

        return dataclasses.replace(
            self,
            loss=chosen(self.loss, "use_aux", "diff_augment"),
            optimizer=chosen(self.optimizer, "g_lr", "d_lr", "batch_size"),
            render=chosen(self.render, "grad_rays", "density_noise_steps", "samples_per_ray"),
        )


DEFAULT_MODEL = "cips3d"  # of a section that names none
VERSION = "version"  # key of a written configuration: of the package that wrote it
# What may change when a run goes on: how long it takes, how often it writes, where the same images lie, who decodes
# them, and what happens at a corrupt one, without which a run that one stopped could not go on.
CHANGEABLE = (
    *("schedule.steps", "schedule.last_step", "schedule.minutes", "output"),
    *("data.source", "data.workers", "data.corrupt", "regularisers.perceptual_network"),
)


def load_training(name: str, assignments: Iterable[str] = ()) -> TrainingConfig:
    """The training preset `name` with `key=value` overrides; its generator preset is filled in first.

    A preset with `base: other` holds the other one's values where it gives none of its own.

    So `generator.inr_width=64` changes one value of the generator, and `generator=paper` takes another generator.
    """
    mapping = _with_base(load_preset("training", name))
    early = [a for a in assignments if a.startswith("generator=")]
    late = [a for a in assignments if not a.startswith("generator=")]
    mapping = override(mapping, early)
    if isinstance(mapping.get("generator"), str):
        preset = load_preset("generator", mapping["generator"])
        mapping["generator"] = to_mapping(build(GeneratorConfigs, preset, "generator"))
    # Completed with the defaults before overriding, so that every key can be set, not only those the preset writes.
    config = build(TrainingConfig, mapping, f"training preset {name}")
    return build(TrainingConfig, override(to_mapping(config), late), f"training preset {name}")


def read_training(path: Path) -> TrainingConfig:
    """A configuration that `write_training` wrote. Raises ConfigError, which names a newer version that wrote it."""
    mapping = read_yaml(path)
    version = str(mapping.pop(VERSION, cips3d_ext.__version__))
    try:
        return build(TrainingConfig, mapping, str(path))
    except ConfigError as error:
        if _numbers(version) <= _numbers(cips3d_ext.__version__):
            raise
        raise ConfigError(
            f"{path} was written by version {version} of cips3d-ext, and this is version {cips3d_ext.__version__} "
            f"({error}); install version {version} to go on, or give another --run-dir to start anew"
        ) from error


def write_training(config: TrainingConfig, path: Path) -> None:
    """The whole configuration as YAML, and the version that wrote it; a failed write leaves the file that was there."""
    mapping = {VERSION: cips3d_ext.__version__, **to_mapping(config)}
    with written_whole(path) as file:
        file.write(yaml.safe_dump(mapping, sort_keys=False).encode())


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


def _with_base(mapping: dict[str, Any]) -> dict[str, Any]:
    """The values of a preset over those of its base, section by section; networks of another model begin afresh."""
    if "base" not in mapping:
        return mapping
    result = _with_base(load_preset("training", mapping["base"]))
    for key, value in mapping.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            other = "model" in value and value["model"] != result[key].get("model", DEFAULT_MODEL)
            result[key] = value if other else result[key] | value
        elif key != "base":
            result[key] = value
    return result


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _flat(mapping: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in mapping.items():
        result |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result
