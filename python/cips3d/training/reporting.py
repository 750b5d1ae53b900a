"""What a run writes while it goes on: stats.jsonl, TensorBoard and W&B, sample pictures and videos, a progress bar."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tqdm import tqdm

from cips3d.config.loader import to_mapping
from cips3d.models.base import BaseGenerator
from cips3d.render.video import save_png, write_video
from cips3d.training.logs import Log, TensorBoardLog, WandbLog
from cips3d.training.snapshots import SEED, VIDEO_FPS, overview, turning_heads
from cips3d.training.trained import TrainedModel
from cips3d.training.trainer import Trainer

SECONDS_BAR = "{percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s{postfix}"
PICTURES_A_VIDEO = 10  # a video costs about as much as so many pictures


class Reporter:
    """Writes into the run folder `run_dir`; entries after `step` from an interrupted attempt are dropped."""

    def __init__(self, run_dir: Path, trainer: Trainer) -> None:
        self.run_dir, self.trainer = run_dir, trainer
        self.stats_path = run_dir / "stats.jsonl"
        _drop_later_rows(self.stats_path, trainer.step)
        self.logs: list[Log] = [TensorBoardLog(run_dir / "tensorboard", trainer.step)]
        if trainer.config.output.wandb is not None:
            self.logs.append(WandbLog(trainer.config.output.wandb, run_dir, to_mapping(trainer.config)))
        self.bar = _progress_bar(trainer)
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def iteration(self, scalars: dict[str, float]) -> None:
        """Take in one iteration's scalars; every `log_every` steps write their means."""
        for name, value in scalars.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1
        trainer = self.trainer
        losses = {"px": trainer.resolution, "D": f"{scalars['d_loss']:.3f}", "G": f"{scalars['g_loss']:.3f}"}
        minutes = trainer.config.schedule.minutes
        if minutes is None:
            self.bar.set_postfix(losses, refresh=False)
            self.bar.update()
        else:
            rate = f"{trainer.step / trainer.seconds:.2f}"
            self.bar.set_postfix({"step": trainer.step, "it/s": rate, **losses}, refresh=False)
            self.bar.update(min(trainer.seconds, 60 * minutes) - self.bar.n)
        if trainer.step % trainer.config.output.log_every == 0:
            self._write_means()

    def samples(self, last: bool = False) -> None:
        """Write samples/<step>.png, which is `snapshots.overview`; each tenth time and at the `last` also a .gif."""
        trainer, output = self.trainer, self.trainer.config.output
        averaged = self._model(trainer.ema.module)
        picture = overview(self._model(trainer.generator), averaged, output.sample_rows)
        path, about = self.run_dir / "samples" / f"{trainer.step:06d}.png", f"step {trainer.step}, seed {SEED}"
        save_png(picture, path, about)
        for log in self.logs:
            log.picture("samples", picture, trainer.step)
        if last or trainer.step // output.sample_every % PICTURES_A_VIDEO == 0:
            path = path.with_suffix(".gif")
            write_video(turning_heads(averaged, output.sample_rows), path, VIDEO_FPS, about)
            for log in self.logs:
                log.video("turning", path, trainer.step)

    def close(self) -> None:
        self.bar.close()
        for log in self.logs:
            log.close()

    def _model(self, generator: BaseGenerator) -> TrainedModel:
        config = self.trainer.config
        return TrainedModel(generator, config.camera, config.render, config.schedule.resolution)

    def _write_means(self) -> None:
        trainer = self.trainer
        row = {name: total / self.counts[name] for name, total in self.sums.items()}
        row |= {"resolution": trainer.resolution, "density_noise_std": trainer.density_noise_std}
        row |= {"alpha": trainer.fade_alpha, "seconds": trainer.seconds}
        if trainer.config.data.corrupt == "skip":
            row["corrupt_images"] = len(trainer.images.dataset.corrupt)
        for log in self.logs:
            log.scalars(row, trainer.step)
        with open(self.stats_path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": trainer.step, **row}) + "\n")
        self.sums, self.counts = {}, {}


def _progress_bar(trainer: Trainer) -> tqdm:
    """A bar of steps, or of seconds of training where a time budget ends the run."""
    schedule = trainer.config.schedule
    if schedule.minutes is None:
        return tqdm(total=schedule.end, initial=trainer.step, unit="it", dynamic_ncols=True)
    return tqdm(
        total=60 * schedule.minutes, initial=trainer.seconds, dynamic_ncols=True, bar_format=SECONDS_BAR, smoothing=0
    )


def _drop_later_rows(path: Path, step: int) -> None:
    """Keep the rows up to `step` of a stats file: a run that was killed wrote more than its checkpoint knows.

    Cut off and not written anew, so that nothing is lost if this is interrupted or the disk is full.
    """
    if path.exists():
        rows = path.read_bytes().splitlines(keepends=True)
        os.truncate(path, sum(len(row) for row in rows if _step_of(row) <= step))


def _step_of(line: bytes) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):  # the last line of a killed run may be half a line
        return float("inf")
