"""VolumeGAN trained by the loop: its losses, exact resumption, and what is made of the run by the commands."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from cips3d.cli import main
from cips3d.config.training import load_training
from cips3d.models.registry import make_generator
from cips3d.render import Camera
from cips3d.training.checkpoint import load_checkpoint
from cips3d.training.path_length import path_lengths
from cips3d.training.trained import load_model
from cips3d.training.trainer import Trainer

LATEST = "checkpoints/latest.pt"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A whole tiny run, and the same one in two parts."""
    folder = tmp_path_factory.mktemp("volumegan")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        words = ["train", "--preset", "volumegan_tiny", "--run-dir"]
        main([*words, str(folder / "whole")])
        for end in ("3", "6"):
            main([*words, str(folder / "parts"), "--set", f"schedule.last_step={end}"])
        yield folder


def test_losses_of_a_run(runs):
    rows = [json.loads(line) for line in (runs / "whole" / "stats.jsonl").read_text().splitlines()]
    assert [row["resolution"] for row in rows] == [8, 8, 8, 16, 16, 16]
    assert ["regulariser_path_length" in row for row in rows] == [True, False] * 3
    assert all(row["regulariser_path_length"] > 0 for row in rows[::2])
    state = load_checkpoint(runs / "whole" / LATEST)
    assert state["path_length"] > 0
    config = load_training("volumegan_tiny")
    start = Trainer(config, FakeImages(), torch.device("cpu")).generator.state_dict()
    learned = {name for name, tensor in state["generator"].items() if not torch.equal(tensor, start[name])}
    assert {name for name in start if "constant" not in name} == learned


class FakeImages:
    """For tests that never ask for an image."""


def test_a_run_in_parts_is_the_whole_run(runs):
    whole, parts = (load_checkpoint(runs / name / LATEST) for name in ("whole", "parts"))
    for key in ("generator", "discriminator", "ema", "g_optimizer", "path_length", "rng"):
        assert_same(whole[key], parts[key])


def assert_same(a, b):
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)


def test_second_order_of_the_path_length_is_that_of_the_references():
    config, results = load_training("volumegan_tiny").generator, []
    for impl in ("reference", "auto"):
        torch.manual_seed(0)
        generator = make_generator(config, impl).double()
        generator.adjust_init(20, 5, 1)
        z = torch.randn(2, config.z_shape_dim, dtype=torch.float64)
        camera = Camera.sample(2, generator=torch.Generator().manual_seed(1))
        styles = generator.by_layer(*generator.map(z, z[:, :0]))
        options = {"resolution": 16, "samples_per_ray": 3, "generator": torch.Generator().manual_seed(2)}
        images = generator.synthesise(*styles, camera, **options).image
        path_lengths(images, styles, torch.randn_like(images)).square().mean().backward()
        results.append({name: p.grad for name, p in generator.named_parameters()})
    for name, gradient in results[0].items():
        other = results[1][name]
        assert (gradient is None) == (other is None), name
        if gradient is not None:
            torch.testing.assert_close(gradient, other, rtol=1e-8, atol=1e-8)
    assert results[0]["field.volume.const"].abs().max() > 0 and results[0]["mapping.fc0.weight"].abs().max() > 0


def test_export_and_load_keep_the_pixels(runs, tmp_path):
    main(["export", "--run-dir", str(runs / "whole"), "--out", str(tmp_path / "model.safetensors")])
    ours, theirs = load_model(runs / "whole"), load_model(tmp_path / "model.safetensors")
    images = [m.images(*m.codes(2, 1), m.poses(2, 1), truncation_psi=0.7) for m in (ours, theirs)]
    assert torch.equal(*images) and images[0].shape == (2, 3, 16, 16)


def test_pictures_of_a_run(runs, tmp_path):
    run = ["--run-dir", str(runs / "whole")]
    main(["generate", *run, "--count", "2", "--yaws", "3", "--out", str(tmp_path / "turned.png")])
    with Image.open(tmp_path / "turned.png") as opened:
        assert opened.size == (3 * 16, 2 * 16)
    panels = ["--panels", "inr", "nerf", "depth", "normal"]
    main(["render", *run, "--frames", "2", *panels, "--out", str(tmp_path / "video.mp4")])
    assert (tmp_path / "video.mp4").stat().st_size > 0
    main(["mesh", *run, "--resolution", "12", "--out", str(tmp_path / "head.ply")])
    assert len(trimesh.load(tmp_path / "head.ply").faces) > 0


def test_numbers_of_a_run(runs, tmp_path):
    run = ["--run-dir", str(runs / "whole")]
    words = ["--metrics", "fd_small", "reprojection", "mirror", "--count", "16", "--heads", "4"]
    main(["evaluate", *run, *words, "--out", str(tmp_path / "scores.json")])
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert "fd_small" in json.dumps(scores)


def test_a_picture_at_the_raw_side_is_the_raw_picture(runs):
    model = load_model(runs / "whole")
    panels = model.views(*model.codes(1, 0), model.poses(1, 0), ("inr", "nerf"), resolution=8)
    np.testing.assert_array_equal(panels["inr"].clamp(-1, 1), panels["nerf"])


def test_training_under_autocast(runs):
    words = ["--set", "optimizer.precision=bf16", "--steps", "4", "--run-dir", str(runs / "bf16")]
    main(["train", "--preset", "volumegan_tiny", *words])
    rows = [json.loads(line) for line in (runs / "bf16" / "stats.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 4 and all(row["regulariser_path_length"] > 0 for row in rows[::2])
