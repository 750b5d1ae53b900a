"""`cips3d evaluate` writes numbers of all metrics, says what is missing before it works, and never half a file."""

import json
import os
import subprocess
import sys

import pytest

from cips3d.cli import main


def test_evaluate_writes_a_table_and_json(run_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "new" / "scores.json"
    words = ["evaluate", "--run-dir", str(run_dir), "--heads", "4", "--count", "6", "--seed", "3", "--out", str(out)]
    metrics = ["mirror", "reprojection", "identity", "pose", "geometry", "fd_small", "kd_small", "pr_small"]
    main([*words, "--metrics", *metrics, "--throughput", "4", "8"])
    scores, text = json.loads(out.read_text()), capsys.readouterr().out
    assert list(scores["metrics"]) == metrics and scores["seed"] == 3 and scores["resolution"] == 16
    assert "--seed 3" in scores["command"] and scores["data"] == {"kind": "SyntheticHeads", "images": 16}
    small = scores["metrics"]["fd_small"]
    assert small["extractor"] == "cips3d-small-1" and (small["generated"], small["real"]) == (6, 16)
    assert f"{small['frechet']:.4f}" in text and "FID" not in text
    assert scores["metrics"]["mirror"]["heads"] == 4 and "kept: hair side" in text
    assert [speed["resolution"] for speed in scores["throughput"]] == [4, 8] and "images/s" in text
    assert [path.name for path in out.parent.iterdir()] == ["scores.json"]


def test_without_a_data_set_the_metrics_that_need_none(run_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["export", "--run-dir", str(run_dir), "--out", "model.safetensors"])
    main(["evaluate", "--checkpoint", "model.safetensors", "--heads", "4"])
    scores = json.loads((tmp_path / "evaluation-seed0.json").read_text())
    assert list(scores["metrics"]) == ["mirror", "reprojection", "identity"] and scores["data"] is None
    assert scores["metrics"]["identity"]["extractor"] == "cips3d-small"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--heads", "3"], "--heads must be at least 4, got 3"),
        (["--count", "0"], "--count must be at least 4, got 0"),
        (["--metrics", "fidd"], "--metrics must be some of mirror, reprojection, identity, pose,"),
        (["--throughput", "1"], "--throughput: sides must be at least 2 pixels, got 1"),
        (["--metrics", "fid", "--inception-weights", "none.pth"], "--inception-weights: there is no file none.pth"),
        (["--data", "nowhere.zip"], "nowhere.zip"),
    ],
)
def test_mistakes(run_dir, capsys, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit:
        main(["evaluate", "--run-dir", str(run_dir), *words])
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and not list(tmp_path.glob("*.json"))


def test_a_missing_torch_fidelity_is_told_before_anything_is_measured(run_dir, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in {"torch_fidelity", *(name for name in sys.modules if name.startswith("torch_fidelity."))}:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("cips3d.metrics.evaluation.measure_mirror_symmetry", lambda *_: pytest.fail("measured"))
    with pytest.raises(SystemExit) as exit:
        main(["evaluate", "--run-dir", str(run_dir), "--heads", "4", "--metrics", "mirror", "fd_small"])
    assert exit.value.code == 2 and "pip install 'cips3d-ext[metrics]'" in capsys.readouterr().err


def test_a_metric_that_the_data_does_not_allow(run_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["data", "lfw", "faces.zip"])
    with pytest.raises(SystemExit):
        main(["evaluate", "--run-dir", str(run_dir), "--data", "faces.zip", "--metrics", "pose"])
    assert "the metric pose needs known poses, but StyleGANZip has none" in capsys.readouterr().err


def test_processes_share_the_work_and_agree_with_one(run_dir, tmp_path):
    """As the README starts it: more chunks of pictures than processes, one that writes."""
    words = ["evaluate", "--run-dir", str(run_dir), "--metrics", "fd_small", "mirror", "--count", "140", "--heads", "4"]
    main([*words, "--device", "cpu", "--out", str(tmp_path / "one.json")])
    together = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cips3d"]
    path = os.pathsep.join(sys.path)
    ended = subprocess.run(
        [*together, *words, "--device", "cpu", "--out", str(tmp_path / "two.json")],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path, "XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    one, two = (json.loads((tmp_path / name).read_text())["metrics"] for name in ("one.json", "two.json"))
    assert one["mirror"] == two["mirror"]
    assert one["fd_small"]["frechet"] == pytest.approx(two["fd_small"]["frechet"], rel=1e-4)
    assert ended.stdout.count("two.json") == 1
