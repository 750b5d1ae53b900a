"""Training, resuming, exporting and showing EG3D by the package's own loop and commands."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cips3d.cli import main
from cips3d.config.training import TrainingConfig, load_training, replace
from cips3d.data import TrainingBatches
from cips3d.training.checkpoint import LATEST, load_checkpoint
from cips3d.training.loop import open_images, train
from cips3d.training.trained import load_model
from cips3d.training.trainer import Trainer

SECONDS = "seconds"


def differing(a: object, b: object, path: str = "") -> list[str]:
    """Paths of entries in which two states differ, but for times."""
    if isinstance(a, dict) and isinstance(b, dict):
        assert a.keys() == b.keys()
        return [found for key in a if key != SECONDS for found in differing(a[key], b[key], f"{path}.{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return [found for k, (x, y) in enumerate(zip(a, b, strict=True)) for found in differing(x, y, f"{path}[{k}]")]
    same = torch.equal(a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a == b
    return [] if same else [path]


@pytest.fixture(scope="module")
def run_dir(data_cache: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "eg3d"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", data_cache)
        train(load_training("eg3d_tiny"), folder)
    return folder


def test_resuming_repeats_the_uninterrupted_run(tiny: TrainingConfig, run_dir: Path, tmp_path: Path) -> None:
    """Interrupted while raw image, swapping and blur are still on their way."""
    train(replace(tiny, "schedule", last_step=3), tmp_path)
    train(tiny, tmp_path)
    assert differing(load_checkpoint(run_dir / LATEST), load_checkpoint(tmp_path / LATEST)) == []


def test_every_part_learns(tiny: TrainingConfig) -> None:
    """One step of both networks moves all that the losses reach: not the discriminator's layers for smaller images."""
    trainer = Trainer(tiny, TrainingBatches(open_images(tiny), 2, 0), torch.device("cpu"))
    before = {name: value.clone() for name, value in trainer.generator.named_parameters()}
    judged = {name: value.clone() for name, value in trainer.discriminator.named_parameters()}
    scalars = trainer.iterate()
    assert scalars["regulariser_density"] > 0 and scalars["r1"] > 0
    still = {name for name, value in trainer.generator.named_parameters() if torch.equal(value, before[name])}
    # The super-resolution has no noise, as published.
    assert still == {f"superresolution.block{b}.conv{c}.noise_strength" for b in (0, 1) for c in (0, 1)}
    still = {name for name, value in trainer.discriminator.named_parameters() if torch.equal(value, judged[name])}
    assert {name.split(".")[:2] == ["main", "from_rgb"] for name in still} == {True}


@pytest.mark.parametrize("change", ["discriminator.dual=false", "generator.pose_conditioned=false"])
def test_ablations_train(change: str, data_cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", data_cache)
    config = load_training("eg3d_tiny", [change])
    trainer = Trainer(config, TrainingBatches(open_images(config), 2, 0), torch.device("cpu"))
    assert all(np.isfinite(value) for value in trainer.iterate().values())


def test_fakes_may_take_the_poses_of_the_data(tiny: TrainingConfig) -> None:
    """All cameras are among those of the images, not all the same, with the images' own field of view."""
    config = replace(replace(tiny, "camera", from_data=True), "optimizer", batch_size=8)
    images = open_images(config)
    camera = Trainer(config, TrainingBatches(images, 8, 0), torch.device("cpu")).sample_inputs().camera
    known = torch.tensor([images.pose(index) for index in range(len(images))]).flip(1)
    nearest = (camera.pitch_yaw[:, None] - known).abs().amax(2).min(1)
    torch.testing.assert_close(nearest.values, torch.zeros(8), atol=1e-5, rtol=0)  # rounded cosines
    assert len(nearest.indices.unique()) > 1
    assert camera.fov_deg == pytest.approx(12.0, abs=1e-4)


def test_commands_show_export_and_carve(run_dir: Path, tmp_path: Path) -> None:
    run = str(run_dir)
    picture, exported, again, mesh = (tmp_path / name for name in ("a.png", "eg3d.safetensors", "b.png", "a.ply"))
    main(["generate", "--run-dir", run, "--out", str(picture), "--count", "2"])
    main(["export", "--run-dir", run, "--out", str(exported)])
    main(["generate", "--run-dir", str(exported), "--out", str(again), "--count", "2"])
    assert np.array_equal(np.asarray(Image.open(picture)), np.asarray(Image.open(again)))
    main(["render", "--run-dir", run, "--out", str(tmp_path / "turn.gif"), "--frames", "2", "--panels", "inr", "depth"])
    assert (tmp_path / "turn.gif").stat().st_size > 0
    main(["mesh", "--run-dir", run, "--out", str(mesh), "--resolution", "8"])
    assert mesh.stat().st_size > 0


def test_evaluation_gives_numbers(
    run_dir: Path, data_cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", data_cache)
    monkeypatch.chdir(tmp_path)  # where its page goes
    main(["evaluate", "--run-dir", str(run_dir), "--metrics", "reprojection", "mirror", "--heads", "4"])
    out = capsys.readouterr().out
    assert "reprojection" in out and "mirror" in out


def test_other_sides_than_the_trained_one_are_refused(run_dir: Path, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["generate", "--run-dir", str(run_dir), "--out", str(tmp_path / "a.png"), "--resolution", "32"])
    assert exit.value.code == 2
    assert "draws 16 pixels a side alone, got 32" in capsys.readouterr().err
    assert load_model(run_dir).side_up_to(8) == 16  # what snapshots ask for
