"""Model files: the weights of a generator and all that is needed to show it, in one .safetensors file free of code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cips3d.config.loader import ConfigError, build, to_mapping
from cips3d.config.training import CameraConfig, RenderConfig
from cips3d.files import written_whole
from cips3d.models.registry import GeneratorConfigs

FORMAT = "cips3d-model-1"
SUFFIX = ".safetensors"
SHIPPED = Path(str(resources.files("cips3d") / "pretrained" / f"synthetic_heads{SUFFIX}"))


@dataclass(frozen=True)
class ModelConfig:
    """What a generator is and what it was trained for; `resolution` is the side of its images in pixels."""

    generator: GeneratorConfigs
    camera: CameraConfig
    render: RenderConfig
    resolution: int


def write_model_file(path: Path, config: ModelConfig, state: dict[str, Tensor], comment: str = "") -> None:
    """Write a generator's state dict to `path`, whole or not at all; `comment` says what made it."""
    write_tensors(path, state, {"format": FORMAT, "config": json.dumps(to_mapping(config)), "comment": comment})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a .safetensors file to `path`, whole or not at all."""
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata)
    with written_whole(path) as file:
        file.write(data)


def read_model_file(path: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """What `write_model_file` wrote. Raises ConfigError if the file is damaged or something else."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ConfigError(
                    f"{path} is no model of this version (wanted format {FORMAT}, got {metadata.get('format')}); "
                    "write it with `cips3d export`"
                )
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
        mapping = json.loads(metadata["config"])
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ConfigError(f"the model {path} cannot be read or is damaged: {error}") from error
    config = build(ModelConfig, mapping, str(path))
    layers = config.generator.most_layers
    if layers > len(state):  # each has tensors of its own: refused before so many modules are made
        raise ConfigError(f"the model {path} is damaged: it says {layers} layers and has {len(state)} tensors")
    return config, state
