"""What a run does with its data: workers change nothing; a corrupt image stops it, or is named and replaced."""

import json
import random
from types import SimpleNamespace

import pytest
from PIL import Image

from cips3d import distributed
from cips3d.config import ConfigError
from cips3d.training.checkpoint import load_checkpoint
from cips3d.training.loop import corrupt_images, train

from ..processes import run_ranks


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for index in range(8):
        Image.frombytes("RGB", (16, 16), random.Random(index).randbytes(768)).save(folder / f"{index}.png")
    return folder


def test_workers_change_nothing_and_may_change_in_a_run(tiny, photographs, tmp_path):
    config = [f"data.source={photographs}", "output.sample_every=100"]
    train(tiny(*config), tmp_path / "whole")
    train(tiny(*config, "data.workers=2", "schedule.last_step=3"), tmp_path / "parts")
    train(tiny(*config, "data.workers=1"), tmp_path / "parts")
    whole, parts = (load_checkpoint(tmp_path / name / "checkpoints/latest.pt") for name in ("whole", "parts"))
    assert whole["images"] == parts["images"]
    assert all(whole["generator"][name].equal(value) for name, value in parts["generator"].items())


def test_a_corrupt_image_stops_a_run_that_may_go_on_without_it(tiny, photographs, tmp_path, capsys):
    (photographs / "5.png").write_text("no picture")
    config = [f"data.source={photographs}", "output.sample_every=100", "output.log_every=1"]
    with pytest.raises(ValueError, match=r"5.png: not a readable PNG.*data.corrupt=skip"):
        train(tiny(*config), tmp_path / "run")
    train(tiny(*config, "data.corrupt=skip", "data.workers=1"), tmp_path / "run")
    text = capsys.readouterr()
    assert text.err.count("5.png: not a readable PNG") == 1
    assert "1 of 8 images are corrupt and were replaced" in text.out
    rows = [json.loads(line) for line in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()]
    assert rows[-1]["corrupt_images"] == 1


def corrupt_images_of_ranks():
    met = {distributed.rank(): "only here", 4: "in both"}
    return corrupt_images(SimpleNamespace(originals=5, corrupt=met))


def test_processes_count_a_corrupt_image_once():
    assert run_ranks(corrupt_images_of_ranks) == [3, 3]


def test_impossible_values_are_refused(tiny):
    with pytest.raises(ConfigError, match="data.workers must be at least 0, got -1"):
        tiny("data.workers=-1")
    with pytest.raises(ConfigError, match="data.corrupt"):
        tiny("data.corrupt=ignore")
