"""Training in two processes: the gradients of one with the whole batch, one writer, and all stop at the same step."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cips3d import distributed
from cips3d.config.training import load_training, replace
from cips3d.data import TrainingBatches
from cips3d.distributed import PeerError
from cips3d.training import loop
from cips3d.training.checkpoint import LATEST, load_checkpoint
from cips3d.training.loop import TrainingStopped, open_images, train
from cips3d.training.trainer import Trainer

from ..processes import PATIENCE, run_ranks
from .test_loop import SECONDS, assert_same, rows

ROOT = Path(__file__).parents[2]
# Growth with fading in, lazy R1, augmentation, partial gradients, the best half of the fakes, then a frozen NeRF and
# smaller batches: each step has other parameters without a gradient.
LAST = "{resolution: 16, freeze_nerf: true, use_aux: false, batch_size: 2}"
STAGES = f"[{{resolution: 8}}, {{resolution: 16, fade_steps: 2}}, {LAST}]"
ITERATIONS = 6
NAMES = ("pose", "style", "density", "normal", "eikonal", "path_length")


class InFloat64:
    """Batches for a trainer that computes in float64, where equal means equal but for the order of sums."""

    def __init__(self, batches):
        self.batches = batches
        self.state_dict, self.resize = batches.state_dict, batches.resize

    def __next__(self):
        return next(self.batches).double()


def iterations_in_float64():
    """What ITERATIONS iterations of a batch of 4 leave: gradients of each (clipped), scalars, state."""
    # The path length is taken where each process has an even number of images: in steps 0 and 3.
    terms = [*(f"regularisers.{name}_weight=0.1" for name in NAMES), "regularisers.path_length_every=3"]
    best = ["loss.topk_every=1", "loss.topk_decay=0.5", "loss.topk_least=0.5"]
    config = load_training("tiny", ["optimizer.batch_size=4", f"schedule.stages={STAGES}", *terms, *best])
    share = distributed.rank(), distributed.world_size()
    images = InFloat64(TrainingBatches(open_images(config), config.optimizer.batch_size, config.seed, *share))
    torch.set_default_dtype(torch.float64)
    trainer = Trainer(config, images, torch.device("cpu"))
    trace = []
    for _ in range(ITERATIONS):
        scalars = {name: value for name, value in trainer.iterate().items() if SECONDS not in name}
        networks = {"generator": trainer.generator, "discriminator": trainer.discriminator}
        gradients = {
            f"{name}.{key}": parameter.grad.clone()
            for name, network in networks.items()
            for key, parameter in network.named_parameters()
            if parameter.grad is not None
        }
        trace.append((scalars, gradients))
    return trace, trainer.state_dict()


def assert_near(a, b, path=""):
    """Equal but for the rounding of float64 sums, which Adam magnifies where a gradient is nearly zero."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_near(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, torch.Tensor) and a.is_floating_point():
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9, msg=lambda text: f"{path}: {text}")
    elif isinstance(a, float):
        assert a == pytest.approx(b, rel=1e-9), path
    else:
        assert_same(a, b, path)


def test_two_processes_do_what_one_does_with_the_whole_batch(tiny):
    (alone,) = run_ranks(iterations_in_float64, ranks=1)
    first, second = run_ranks(iterations_in_float64)
    assert_same(first, second)  # bit for bit
    assert len({len(gradients) for _, gradients in first[0]}) > 1, "the stages use different parameters"
    for (scalars, gradients), (alone_scalars, alone_gradients) in zip(first[0], alone[0], strict=True):
        assert_near(scalars, alone_scalars)
        assert_near(gradients, alone_gradients)
    assert_same(first[1]["rng"], alone[1]["rng"])
    assert_same(first[1]["images"], alone[1]["images"])
    assert_near(first[1], alone[1])


def train_into(run_dir, stop_in=None, **schedule):
    """Process 0 trains into `run_dir`, the other one beside it; in iteration `stop_in` the other one gets a SIGTERM."""
    own = run_dir if distributed.is_main() else run_dir / "not here"
    iterate = Trainer.iterate

    def iterate_and_signal(trainer):
        if trainer.step == (stop_in or 0) - 1 and not distributed.is_main():
            os.kill(os.getpid(), signal.SIGTERM)
        return iterate(trainer)

    Trainer.iterate = iterate_and_signal
    result = train(replace(load_training("tiny"), "schedule", **schedule), own)
    return result.step, result.reason


def test_one_process_writes_all_stop_and_all_resume(tiny, tmp_path):
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    assert run_ranks(train_into, parts, 3) == [(3, "SIGTERM")] * 2
    assert load_checkpoint(parts / LATEST)["step"] == 3
    assert run_ranks(train_into, parts) == [(6, "steps")] * 2
    assert run_ranks(train_into, whole) == [(6, "steps")] * 2
    assert_same(load_checkpoint(whole / LATEST), load_checkpoint(parts / LATEST))
    assert [row["step"] for row in rows(parts)] == [1, 2, 3, 4, 5, 6]
    assert not (parts / "not here").exists()
    assert train(replace(tiny(), "schedule", last_step=7), parts).step == 7  # as a single process


def train_with_a_fast_clock():
    if not distributed.is_main():
        clock = time.perf_counter
        loop.time.perf_counter = lambda: 100 * clock()
    return train_into(Path(os.environ["RUN_DIR"]), steps=10**6, minutes=0.02)


def test_the_clock_of_process_0_ends_all(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("RUN_DIR", str(tmp_path / "run"))
    (steps, reason), other = run_ranks(train_with_a_fast_clock)
    assert reason == "minutes" and other == (steps, reason)
    assert load_checkpoint(tmp_path / "run" / LATEST)["seconds"] > 0.02 * 60


def train_on_what_is_not_a_number(run_dir):
    following = TrainingBatches.__next__
    if not distributed.is_main():
        TrainingBatches.__next__ = lambda batches: following(batches) * torch.nan
    return error_of(train, load_training("tiny"), run_dir)


def error_of(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return type(error), str(error)


def test_all_diverge_together(tiny, tmp_path):
    results = run_ranks(train_on_what_is_not_a_number, tmp_path)
    assert all(kind is TrainingStopped and "discriminator's loss is nan" in text for kind, text in results)
    assert load_checkpoint(tmp_path / "checkpoints" / "diverged.pt")["step"] == 0


def train_apart(run_dir):
    config = load_training("tiny")
    other_seed = load_training("tiny", [f"seed={distributed.rank()}"])
    uneven = load_training("tiny", ["optimizer.batch_size=3"])
    cases = (other_seed, run_dir), (uneven, run_dir), (config, run_dir / "file" / "run")
    return [error_of(train, *case) for case in cases]


def test_mistakes_stop_all(tiny, tmp_path):
    (tmp_path / "file").touch()
    (same, uneven, unwritable), (same_too, uneven_too, other) = run_ranks(train_apart, tmp_path)
    assert same == same_too and "the configuration of process 1 differs from process 0's" in same[1]
    assert uneven == uneven_too and "a batch of 3 images has no equal parts for 2 processes" in uneven[1]
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "nothing was begun"
    assert "cannot write into the run folder" in unwritable[1]
    assert other[0] is PeerError and "process 0 stopped: ConfigError: cannot write into" in other[1]


def children(pid):
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(word) for task in tasks for word in (task / "children").read_text().split()]


def test_torchrun_survives_a_kill_and_hands_on_a_signal(tiny, tmp_path):
    """The same command three times: a process is killed with -9, all are stopped by a signal, the run ends."""
    run_dir = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cips3d"]
    command += ["train", "--preset", "tiny", "--run-dir", str(run_dir), "--device", "cpu", "--steps"]
    paths = os.pathsep.join([str(ROOT / "python"), str(ROOT)])

    def begin(steps):
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([*command, str(steps)], env=environment, **pipes)

    def wait_for_step(process, step):
        while not (run_dir / LATEST).exists() or rows(run_dir)[-1]["step"] < step:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)

    process = begin(10**6)
    wait_for_step(process, 3)
    os.kill(children(process.pid)[1], signal.SIGKILL)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0 and "SIGKILL" in errors or "Signal 9" in errors
    saved = load_checkpoint(run_dir / LATEST)["step"]

    process = begin(10**6)
    wait_for_step(process, saved + 3)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)
    assert f"resuming {run_dir} at step {saved}" in output
    (stopped,) = re.findall(r"stopped by SIGTERM at step (\d+)", output)
    assert load_checkpoint(run_dir / LATEST)["step"] == int(stopped) == rows(run_dir)[-1]["step"]

    process = begin(int(stopped) + 1)
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and output.count("done (steps)") == 1, errors
    assert [row["step"] for row in rows(run_dir)] == list(range(1, int(stopped) + 2))
