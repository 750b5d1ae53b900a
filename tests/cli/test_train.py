"""`cips3d train` and `cips3d demo` as a user types them."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cips3d.cli import main

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def isolated(cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


def test_trains_and_resumes(tmp_path, capsys):
    command = ["train", "--preset", "tiny", "--run-dir", str(tmp_path / "run"), "--steps", "1", "--device", "cpu"]
    main(command)
    assert "done (steps) at step 1" in capsys.readouterr().out
    main([*command[:-3], "2", "--device", "cpu"])
    out = capsys.readouterr().out
    assert f"resuming {tmp_path / 'run'} at step 1" in out and "at step 2" in out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--preset", "tyni"], "cips3d train: no training preset 'tyni' (did you mean 'tiny'?)"),
        (["--preset", "tiny", "--set", "optimizer.lr=1"], "unknown key 'lr' in optimizer"),
        (["--preset", "tiny", "--data", "nowhere.zip"], "'nowhere.zip' does not exist"),
        (["--preset", "tiny", "--device", "abacus"], "--device abacus: "),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--run-dir", str(tmp_path / "run"), *arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_missing_gpu_is_one_line_before_any_work(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--preset", "tiny", "--run-dir", str(tmp_path / "run"), "--device", "cuda"])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "--device cuda: " in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_so(tmp_path, number):
    command = [sys.executable, "-m", "cips3d", "train", "--preset", "tiny", "--run-dir", str(tmp_path / "run")]
    command += ["--steps", "1000000", "--device", "cpu"]
    paths = os.pathsep.join([str(ROOT / "python"), str(ROOT)])
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths})
    stats = tmp_path / "run" / "stats.jsonl"
    while not stats.exists():  # the first step is done
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"stopped by {number.name}" in output and "latest.pt" in output
    assert (tmp_path / "run" / "checkpoints" / "latest.pt").exists()


def test_demo_leaves_a_report(tmp_path, capsys):
    main(["demo", "--preset", "tiny", "--out", str(tmp_path / "demo"), "--device", "cpu"])
    out = capsys.readouterr().out
    assert "pose control" in out and "report.html" in out and "generator 32x32" in out
    page = (tmp_path / "demo" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3 and "data:video/mp4;base64," in page and "<svg" in page
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)  # nothing to fetch
