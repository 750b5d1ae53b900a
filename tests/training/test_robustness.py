"""What goes wrong with machines: a kill at any moment, a full disk, a folder or a checkpoint that is no good."""

import io
import os
import resource
import signal
import time
from pathlib import Path

import pytest
import torch

from cips3d import files
from cips3d.config import ConfigError
from cips3d.config.training import load_training, replace
from cips3d.training import checkpoint
from cips3d.training.checkpoint import LATEST, CheckpointError, load_checkpoint, save_checkpoint
from cips3d.training.loop import train
from cips3d.training.trainer import Trainer

from ..processes import PATIENCE, run_ranks, start
from .test_loop import SECONDS, assert_same, rows

EVERY = 2  # steps between checkpoints of the preset `tiny`


def hang(run_dir):
    (run_dir / "hangs").touch()
    signal.pause()


def train_until(run_dir, moment, step):
    """Train, and hang in the `moment` of iteration `step` or of the checkpoint after it."""
    generate, save, rename = Trainer._generate, torch.save, os.replace

    def in_iteration(trainer):
        if trainer.step == step - 1:
            hang(run_dir)
        return generate(trainer)

    def in_writing(state, file):
        if state["step"] < step:
            return save(state, file)
        whole = io.BytesIO()
        save(state, whole)
        file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
        file.flush()
        hang(run_dir)

    def before_renaming(source, target):
        if Path(target).name == LATEST.name and load_checkpoint(source)["step"] == step:
            hang(run_dir)
        rename(source, target)

    if moment == "iteration":
        Trainer._generate = in_iteration
    elif moment == "writing":
        checkpoint.torch.save = in_writing
    elif moment == "renaming":
        files.os.replace = before_renaming
    train(load_training("tiny"), run_dir)


def test_a_kill_loses_no_more_than_the_last_interval(tiny, tmp_path):
    """One run, killed with -9 again and again; the same call goes on, and ends as the run that was left alone."""
    run_dir, whole = tmp_path / "run", tmp_path / "whole"
    for moment, step in (("writing", 2), ("iteration", 4), ("writing", 4), ("renaming", 4), ("iteration", 5)):
        process = start(train_until, run_dir, moment, step)
        patience = time.monotonic() + PATIENCE
        while not (run_dir / "hangs").exists():
            assert process.is_alive() and time.monotonic() < patience
            time.sleep(0.02)
        process.kill()
        process.join()
        (run_dir / "hangs").unlink()
        done = step - (moment == "iteration")
        saved = load_checkpoint(run_dir / LATEST)["step"] if (run_dir / LATEST).exists() else 0
        assert done - EVERY <= saved <= done
    run_ranks(train_until, run_dir, None, 0, ranks=1)
    run_ranks(train_until, whole, None, 0, ranks=1)
    assert_same(load_checkpoint(whole / LATEST), load_checkpoint(run_dir / LATEST))
    ours, theirs = (
        [{k: v for k, v in row.items() if SECONDS not in k} for row in rows(path)] for path in (run_dir, whole)
    )
    assert ours == theirs


def fill_the_disk(run_dir):
    """What a run says that cannot write its checkpoint, then one that cannot write its statistics; then it goes on."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def train_with(room):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        try:
            return train(load_training("tiny"), run_dir).step
        except Exception as error:
            return type(error), str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

    stats = run_dir / "stats.jsonl"
    seen = [train_with((run_dir / LATEST).stat().st_size - 1)]
    seen.append(load_checkpoint(run_dir / LATEST)["step"])
    first = stats.read_text().splitlines(keepends=True)[0]
    stats.write_text(first * 100)
    seen.append(train_with(stats.stat().st_size + 1))
    seen.append(stats.read_text().startswith(first * 100))
    stats.write_text(first)
    return [*seen, train_with(hard)]


def test_a_full_disk_stops_a_run_and_loses_nothing(tiny, tmp_path):
    train(replace(tiny(), "schedule", last_step=2), tmp_path)
    ((no_checkpoint, saved, no_stats, kept, ended),) = run_ranks(fill_the_disk, tmp_path, ranks=1)
    assert no_checkpoint[0] is CheckpointError and saved == 2
    assert "cannot write the checkpoint" in no_checkpoint[1] and "free some space" in no_checkpoint[1]
    assert no_stats[0] is ConfigError and kept
    assert f"cannot write into the run folder {tmp_path}" in no_stats[1] and "free some space" in no_stats[1]
    assert ended == 6
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["latest.pt", "previous.pt"]


def test_a_folder_that_cannot_be_made(tiny):
    with pytest.raises(ConfigError, match="cannot write into the run folder /proc/cips3d.*another --run-dir"):
        train(tiny(), Path("/proc/cips3d"))  # which not even root may write


def test_a_checkpoint_that_does_not_fit(tiny, tmp_path):
    train(tiny("schedule.steps=1"), tmp_path)
    state = load_checkpoint(tmp_path / LATEST)
    save_checkpoint(tmp_path / LATEST, {name: value for name, value in state.items() if name != "images"})
    with pytest.raises(CheckpointError, match="latest.pt does not fit the configuration of its run .'images'"):
        train(tiny(), tmp_path)
    state["generator"].popitem()
    save_checkpoint(tmp_path / LATEST, state)
    with pytest.raises(CheckpointError, match="does not fit .*Error.* in loading state_dict for Generator"):
        train(tiny(), tmp_path)
