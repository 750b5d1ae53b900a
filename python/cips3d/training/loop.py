"""The training loop: start or resume, iterate, report, save, stop."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from cips3d.config.loader import ConfigError, to_mapping
from cips3d.config.training import TrainingConfig, check_same_run, write_training
from cips3d.data import ImageDataset, TrainingBatches, open_dataset
from cips3d.training.checkpoint import LATEST, load_checkpoint, save_checkpoint
from cips3d.training.reporting import Reporter
from cips3d.training.steps import NonFiniteError
from cips3d.training.stop import StopRequest, stop_on_signals
from cips3d.training.trained import read_run
from cips3d.training.trainer import Trainer


class TrainingStopped(RuntimeError):
    """The losses are no longer finite; the message says where the state lies and what to try."""


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended: `reason` is "steps", "minutes", "SIGINT" or "SIGTERM"."""

    step: int
    seconds: float
    reason: str
    checkpoint: Path


def train(
    config: TrainingConfig, run_dir: Path, device: str = "cpu", impl: str = "auto", start_from: Path | None = None
) -> TrainingResult:
    """Train into `run_dir`, or go on from its checkpoint; returns when done or asked to stop by a signal.

    `start_from`, another run's folder or checkpoint, gives a new run its networks: weights and averaged weights.

    `run_dir` then holds config.yaml, stats.jsonl, checkpoints/latest.pt, samples/ and tensorboard/. Raises
    ConfigError (other configuration, unwritable folder), CheckpointError (damaged checkpoint), TrainingStopped
    (non-finite losses).
    """
    # The folder first: a run that cannot be written should say so before it renders a data set.
    checkpoint = run_dir / LATEST
    _prepare_folder(config, run_dir)
    state = load_checkpoint(checkpoint, device) if checkpoint.exists() else None

    # The same configuration and seed make the same trainer; the checkpoint then moves it forward.
    real = open_images(config)
    images = TrainingBatches(real, config.optimizer.batch_size, config.seed, workers=config.data.workers, device=device)
    trainer = Trainer(config, images, torch.device(device), impl)
    if state is not None:
        trainer.load_state_dict(state)
        print(f"resuming {run_dir} at step {trainer.step}")
    elif start_from is not None:
        _adopt(trainer, start_from)

    reporter = Reporter(run_dir, trainer)
    try:
        with stop_on_signals() as stop:
            reason = _iterate(trainer, reporter, checkpoint, stop)
    except NonFiniteError as error:
        raise TrainingStopped(_after_divergence(trainer, run_dir, error)) from error
    finally:
        images.close()
        reporter.close()
    if real.corrupt:
        print(f"{len(real.corrupt)} of {real.originals} images are corrupt and were replaced; they are named above")
    return TrainingResult(trainer.step, trainer.seconds, reason, checkpoint)


def open_images(config: TrainingConfig) -> ImageDataset:
    """The real images of a run, at its last resolution. Raises ConfigError."""
    data, resolution = config.data, config.schedule.resolution
    try:
        return open_dataset(
            data.source, resolution, xflip=data.xflip, size=data.size, seed=data.seed, on_corrupt=data.corrupt
        )
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from error


def _adopt(trainer: Trainer, path: Path) -> None:
    config, state = read_run(path)
    for part in ("generator", "discriminator"):
        ours, theirs = (to_mapping(getattr(c, part)) for c in (trainer.config, config))
        different = [f"{part}.{key}: {theirs[key]} there, {ours[key]} here" for key in ours if ours[key] != theirs[key]]
        if different:
            raise ConfigError(f"cannot start from {path}: {'; '.join(different)}; use a preset with the same networks")
    trainer.adopt(state)
    print(f"starting with the networks of {path} (its step {state['step']})")


def _iterate(trainer: Trainer, reporter: Reporter, checkpoint: Path, stop: StopRequest) -> str:
    """Iterate until done or asked to stop; what is on the disk at the end is the state at the end."""
    output, saved = trainer.config.output, -1
    while not trainer.done and not stop:
        started = time.perf_counter()
        scalars = trainer.iterate()
        trainer.seconds += time.perf_counter() - started
        reporter.iteration(scalars)
        if trainer.step % output.sample_every == 0 and not trainer.done:
            reporter.samples()
        if trainer.step % output.checkpoint_every == 0:
            save_checkpoint(checkpoint, trainer.state_dict())
            saved = trainer.step

    if saved != trainer.step:
        save_checkpoint(checkpoint, trainer.state_dict())
    if stop.received is not None:
        return stop.received.name
    reporter.samples(last=True)
    return "steps" if trainer.step >= trainer.config.schedule.end else "minutes"


def _prepare_folder(config: TrainingConfig, run_dir: Path) -> None:
    """Make `run_dir` with its config.yaml, or check that it holds a run of the same configuration."""
    path = run_dir / "config.yaml"
    try:
        (run_dir / "samples").mkdir(parents=True, exist_ok=True)
        if path.exists():
            check_same_run(config, path)
        write_training(config, path)
    except OSError as error:
        raise ConfigError(f"cannot write into the run folder {run_dir}: {error}; choose another --run-dir") from error


def _after_divergence(trainer: Trainer, run_dir: Path, error: NonFiniteError) -> str:
    """Save the state beside the last good checkpoint, which stays, and say what to do."""
    path = run_dir / "checkpoints" / "diverged.pt"
    save_checkpoint(path, trainer.state_dict())
    return (
        f"stopped at step {trainer.step}: {error}. The state is saved in {path}; checkpoints/latest.pt, where there is "
        "one, is older and good. Try a lower learning rate (--set optimizer.g_lr=..., optimizer.d_lr=...), a larger "
        "loss.r1_weight, or precision off"
    )
