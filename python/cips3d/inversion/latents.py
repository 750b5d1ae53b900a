"""Files of what an inversion found: styles and pose as .safetensors, which hold no code."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cips3d.training.model_file import SUFFIX, write_tensors
from cips3d.training.trained import TrainedModel

FORMAT = "cips3d-latents-1"


class Latents(NamedTuple):
    """One head: styles w_shape [1,W], w_appearance [1,W'], and the pose yaw [1], pitch [1] of its picture, rad."""

    w_shape: Tensor
    w_appearance: Tensor
    yaw: Tensor
    pitch: Tensor


def save_latents(path: Path, latents: Latents, comment: str) -> None:
    """Writes the file whole or not at all; `comment` says what made it."""
    write_tensors(path, latents._asdict(), {"format": FORMAT, "comment": comment})


def load_latents(path: Path, model: TrainedModel) -> Latents:
    """What `save_latents` wrote, on the model's device. Raises ValueError if it is no such file or of another model."""
    config = model.generator.config
    shapes = Latents((1, config.shape_style_dim), (1, config.appearance_style_dim), (1,), (1,))  # type: ignore[arg-type]
    try:
        with safe_open(path, framework="pt") as file:
            found = (file.metadata() or {}).get("format")
            if found != FORMAT:
                raise ValueError(
                    f"{path} holds no latents of this version (wanted format {FORMAT}, got {found}); "
                    f"give the latents{SUFFIX} that `cips3d invert` wrote"
                )
            latents = Latents(*(file.get_tensor(name) for name in Latents._fields))
    except (OSError, SafetensorError) as error:
        raise ValueError(f"the latents {path} cannot be read or are damaged: {error}") from error
    for name, tensor, shape in zip(Latents._fields, latents, shapes, strict=True):
        if tensor.shape != shape or tensor.dtype != torch.float32 or not tensor.isfinite().all():
            raise ValueError(
                f"{path}: {name} must be finite float32 {list(shape)} for this model, got {tensor.dtype} "
                f"{list(tensor.shape)}; give the model that was inverted"
            )
    return Latents(*(tensor.to(model.device) for tensor in latents))
