"""Where a run's numbers and pictures go besides its folder: TensorBoard always, Weights & Biases on request."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from cips3d.config.loader import ConfigError

WANDB_ID = "wandb_id.txt"  # in a run folder: which run at W&B it is, so that resuming goes on there
RGB = 3  # TensorBoard's code of a colour space


class Log(Protocol):
    """Takes scalars, a picture or a GIF of the training step `step`."""

    def scalars(self, values: Mapping[str, float], step: int) -> None: ...

    def picture(self, name: str, picture: Image.Image, step: int) -> None: ...

    def video(self, name: str, gif: Path, step: int) -> None: ...

    def close(self) -> None: ...


class TensorBoardLog:
    """Event files in `folder`; what an interrupted attempt wrote after `step` is dropped."""

    def __init__(self, folder: Path, step: int) -> None:
        self.writer = SummaryWriter(str(folder), purge_step=step + 1)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def picture(self, name: str, picture: Image.Image, step: int) -> None:
        self.writer.add_image(name, np.asarray(picture), step, dataformats="HWC")

    def video(self, name: str, gif: Path, step: int) -> None:
        """An image summary of the GIF's own bytes, which TensorBoard plays; `add_video` would need moviepy for that."""
        with Image.open(gif) as picture:
            width, height = picture.size
        image = Summary.Image(width=width, height=height, colorspace=RGB, encoded_image_string=gif.read_bytes())
        assert self.writer.file_writer is not None
        self.writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)

    def close(self) -> None:
        self.writer.close()


class WandbLog:
    """A run of the W&B project `project`: the one that `run_dir` began, if it did.

    W&B wants growing steps of its own, and a run that was killed repeats some: the training's step is a metric there,
    and the axis of all others. Raises ConfigError if the package is missing or W&B cannot start.
    """

    def __init__(self, project: str, run_dir: Path, config: dict[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ConfigError(
                f"output.wandb is {project!r}, but the package wandb is not installed; install the extra wandb "
                "(pip install wandb) or set output.wandb=null"
            ) from error
        path = run_dir / WANDB_ID
        if not path.exists():
            path.write_text(uuid.uuid4().hex, encoding="utf-8")
        identity = {"id": path.read_text(encoding="utf-8").strip(), "name": run_dir.resolve().name}
        self.wandb = wandb
        try:
            self.run = wandb.init(project=project, resume="allow", dir=str(run_dir), config=config, **identity)
        except wandb.Error as error:
            raise ConfigError(
                f"output.wandb is {project!r}, but W&B does not start: {error}; log in (wandb login), set "
                "WANDB_MODE=offline, or set output.wandb=null"
            ) from error
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self.run.log({**values, "step": step})

    def picture(self, name: str, picture: Image.Image, step: int) -> None:
        self.run.log({name: self.wandb.Image(picture), "step": step})

    def video(self, name: str, gif: Path, step: int) -> None:
        self.run.log({name: self.wandb.Video(str(gif), format="gif"), "step": step})

    def close(self) -> None:
        self.run.finish()
