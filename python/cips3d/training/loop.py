"""The training loop: start or resume, iterate, report, save, stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cips3d import distributed
from cips3d.config.loader import ConfigError, to_mapping
from cips3d.config.training import TrainingConfig, check_same_run, write_training
from cips3d.data import ImageDataset, TrainingBatches, open_dataset
from cips3d.training.checkpoint import LATEST, CheckpointError, load_checkpoint, save_checkpoint
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

    `run_dir` then holds config.yaml, stats.jsonl, checkpoints/latest.pt, samples/*.png and tensorboard/. Of several
    processes (`distributed.joined`) number 0 alone reads and writes it; the others need not see it. Raises ConfigError
    (other configuration, folder that cannot be written), CheckpointError (damaged checkpoint), TrainingStopped
    (non-finite losses), PeerError (another process failed).
    """
    distributed.check_same((config, start_from), "the configuration")
    for index in range(len(config.schedule.stages)):  # there must be a part for each, before anything is written
        distributed.own_rows(config.at_stage(index).optimizer.batch_size)
    checkpoint = run_dir / LATEST
    # The folder first: a run that cannot be written should say so before it renders a data set.
    state = distributed.from_main(lambda: _enter_folder(config, run_dir))

    # The same configuration and seed make the same trainer; the checkpoint then moves it forward.
    real = open_images(config)
    distributed.check_same(len(real), "the number of images")
    images = TrainingBatches(
        real,
        config.optimizer.batch_size,
        config.seed,
        distributed.rank(),
        distributed.world_size(),
        workers=config.data.workers,
        device=device,
    )
    trainer = Trainer(config, images, torch.device(device), impl)
    if state is not None:
        _restore(trainer, state, checkpoint)
        _say(f"resuming {run_dir} at step {trainer.step}")
    elif start_from is not None:
        _adopt(trainer, start_from)

    reporter = Reporter(run_dir, trainer) if distributed.is_main() else None
    try:
        with stop_on_signals() as stop:
            reason = _iterate(trainer, reporter, checkpoint, stop)
    except NonFiniteError as error:
        raise TrainingStopped(_after_divergence(trainer, run_dir, error)) from error
    finally:
        images.close()
        if reporter is not None:
            reporter.close()
    corrupt = corrupt_images(real) if config.data.corrupt == "skip" else 0
    if corrupt:
        _say(f"{corrupt} of {real.originals} images are corrupt and were replaced; they are named above")
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


def corrupt_images(real: ImageDataset) -> int:
    """How many corrupt images the processes have met together; all must ask."""
    met = torch.zeros(1, real.originals, dtype=torch.uint8)
    met[0, list(real.corrupt)] = 1
    return int(distributed.gather(met).amax(0).sum())


def _restore(trainer: Trainer, state: dict[str, Any], checkpoint: Path) -> None:
    try:
        trainer.load_state_dict(state)
    except (KeyError, RuntimeError) as error:  # an entry or a weight is missing, or has another shape
        raise CheckpointError(
            f"the checkpoint {checkpoint} does not fit the configuration of its run ({str(error).splitlines()[0]}); "
            "restore the one that was written there, or delete it to start over"
        ) from error


def _adopt(trainer: Trainer, path: Path) -> None:
    config, state = distributed.from_main(lambda: read_run(path))
    for part in ("generator", "discriminator"):
        ours, theirs = (to_mapping(getattr(c, part)) for c in (trainer.config, config))
        different = [f"{part}.{key}: {theirs[key]} there, {ours[key]} here" for key in ours if ours[key] != theirs[key]]
        if different:
            raise ConfigError(f"cannot start from {path}: {'; '.join(different)}; use a preset with the same networks")
    trainer.adopt(state)
    _say(f"starting with the networks of {path} (its step {state['step']})")


def _iterate(trainer: Trainer, reporter: Reporter | None, checkpoint: Path, stop: StopRequest) -> str:
    """Iterate until done or asked to stop; what is on the disk at the end is the state at the end."""
    output, saved, received = trainer.config.output, -1, None
    while not trainer.done and received is None:
        started = time.perf_counter()
        scalars = trainer.iterate()
        trainer.seconds += time.perf_counter() - started
        if reporter is not None:
            with _writing_into(reporter.run_dir):
                reporter.iteration(scalars)
                if trainer.step % output.sample_every == 0 and not trainer.done:
                    reporter.samples()
        if trainer.step % output.checkpoint_every == 0:
            _save(trainer, checkpoint)
            saved = trainer.step
        trainer.seconds, received = _agree(trainer.seconds, stop.received)

    if saved != trainer.step:
        _save(trainer, checkpoint)
    if received is not None:
        return received.name
    if reporter is not None:
        with _writing_into(reporter.run_dir):
            reporter.samples(last=True)
    return "steps" if trainer.step >= trainer.config.schedule.end else "minutes"


def _agree(seconds: float, received: signal.Signals | None) -> tuple[float, signal.Signals | None]:
    """The clock of process 0 and the signal that any process received: all change stages and stop at the same step."""
    everyone = distributed.gather(torch.tensor([[seconds, received or 0]], dtype=torch.float64))
    number = int(everyone[:, 1].max())
    return everyone[0, 0].item(), signal.Signals(number) if number else None


def _save(trainer: Trainer, path: Path) -> None:
    distributed.from_main(lambda: save_checkpoint(path, trainer.state_dict()))


def _say(text: str) -> None:
    if distributed.is_main():
        print(text)


def _enter_folder(config: TrainingConfig, run_dir: Path) -> dict[str, Any] | None:
    """Make `run_dir` with its config.yaml, or check that it holds a run of this configuration, and load its state."""
    path, checkpoint = run_dir / "config.yaml", run_dir / LATEST
    with _writing_into(run_dir):
        (run_dir / "samples").mkdir(parents=True, exist_ok=True)
        if path.exists():
            check_same_run(config, path)
        write_training(config, path)
    return load_checkpoint(checkpoint) if checkpoint.exists() else None


@contextmanager
def _writing_into(run_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"cannot write into the run folder {run_dir}: {error}; free some space or choose another --run-dir"
        ) from error


def _after_divergence(trainer: Trainer, run_dir: Path, error: NonFiniteError) -> str:
    """Save the state beside the last good checkpoint, which stays, and say what to do."""
    path = run_dir / "checkpoints" / "diverged.pt"
    _save(trainer, path)
    return (
        f"stopped at step {trainer.step}: {error}. The state is saved in {path}; checkpoints/latest.pt, where there is "
        "one, is older and good. Try a lower learning rate (--set optimizer.g_lr=..., optimizer.d_lr=...), a larger "
        "loss.r1_weight, or precision off"
    )
