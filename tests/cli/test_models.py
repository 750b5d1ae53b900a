"""Every command with every further model: the smallest preset of each is trained, resumed, shown and measured."""

import json

import pytest
import torch
import trimesh
from PIL import Image

from cips3d.cli import invert, main
from cips3d.config.training import load_training, replace
from cips3d.metrics import evaluation
from cips3d.training.checkpoint import LATEST, load_checkpoint
from cips3d.training.loop import train
from cips3d.training.trained import load_model

PRESETS = ["pigan_tiny", "volumegan_tiny", "eg3d_tiny"]


@pytest.fixture(scope="module", params=PRESETS)
def trained(request, tmp_path_factory):
    """The preset and the run of all its steps."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        main(["train", "--preset", request.param, "--run-dir", str(folder / "run")])
        config = load_training(request.param)
        for end in (3, config.schedule.steps):  # one step before the resolution changes
            train(replace(config, "schedule", last_step=end), folder / "parts")
    return request.param, folder / "run", folder / "parts"


def test_resuming_repeats_the_uninterrupted_run(trained):
    whole, parts = (load_checkpoint(folder / LATEST) for folder in trained[1:])
    assert whole["step"] == parts["step"] > 3
    for part in ("generator", "discriminator", "ema"):
        assert whole[part].keys() == parts[part].keys()
        assert all(torch.equal(value, parts[part][name]) for name, value in whole[part].items()), part
    assert torch.equal(whole["rng"], parts["rng"]) and whole["shown"] == parts["shown"] > 0


def test_every_parameter_learns(trained):
    preset, run, _ = trained
    config, state = load_training(preset), load_checkpoint(run / LATEST)
    for network, optimizer in (("generator", "g_optimizer"), ("discriminator", "d_optimizer")):
        moved = [entry["exp_avg_sq"].any() for entry in state[optimizer]["state"].values()]
        # Layers for sizes that the schedule does not have, and a first bias that nothing reads, get no gradient.
        assert sum(moved) > 0.7 * len(moved), network
    assert config.schedule.steps == state["step"]


def test_an_exported_model_shows_the_same_heads(trained, tmp_path):
    _, run, _ = trained
    main(["export", "--run-dir", str(run), "--out", str(tmp_path / "model.safetensors")])
    model, exported = load_model(run), load_model(tmp_path / "model.safetensors")
    codes, camera = model.codes(2, 1), model.poses(2, 1)
    assert torch.equal(model.images(*codes, camera), exported.images(*codes, camera))


def test_kernels_and_references_show_the_same_heads(trained):
    models = [load_model(trained[1], impl=impl) for impl in ("reference", "auto")]
    codes, camera = models[0].codes(2, 1), models[0].poses(2, 1)
    pictures = [model.images(*codes, camera) for model in models]
    torch.testing.assert_close(*pictures, rtol=1e-3, atol=1e-3)
    assert pictures[0].std() > 0


def test_pictures_and_videos(trained, tmp_path):
    source = ["--run-dir", str(trained[1])]
    main(["generate", *source, "--count", "2", "--psi", "0.7", "--out", str(tmp_path / "g.png")])
    with Image.open(tmp_path / "g.png") as grid:
        assert grid.size == (2 * 16, 16)
    panels = ["--panels", "inr", "nerf", "depth", "normal"]
    main(["render", *source, *panels, "--frames", "2", "--out", str(tmp_path / "turn")])
    with Image.open(tmp_path / "turn" / "frame_0001.png") as frame:
        assert frame.size == (4 * 16, 16)
    walk = ["--seeds", "1", "2", "--frames", "2"]
    main(["interpolate", *source, *walk, "--out", str(tmp_path / "walk.png")])
    main(["interpolate", *source, *walk, "--space", "z", "--out", str(tmp_path / "walk.gif")])
    assert (tmp_path / "walk.gif").exists()


def test_a_mesh(trained, tmp_path):
    _, run, _ = trained
    main(["mesh", "--run-dir", str(run), "--resolution", "9", "--out", str(tmp_path / "head.ply")])
    assert len(trimesh.load(tmp_path / "head.ply").faces) > 0


def test_evaluation(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "LEARNT_FROM", 16)
    out, metrics = tmp_path / "e.json", ["mirror", "reprojection", "pose"]
    words = ["--metrics", *metrics, "--heads", "4", "--count", "4", "--out", str(out)]
    main(["evaluate", "--run-dir", str(trained[1]), *words])
    assert set(json.loads(out.read_text())["metrics"]) == set(metrics)


@pytest.mark.parametrize("space", ["w", "z"])
def test_inversion(trained, tmp_path, monkeypatch, space):
    monkeypatch.setattr(invert, "FRAMES", 2)
    _, run, _ = trained
    main(["generate", "--run-dir", str(run), "--count", "1", "--out", str(tmp_path / "head.png")])
    short = ["--starts", "2", "--steps", "2", "--tune-steps", "1", "--space", space]
    main(["invert", str(tmp_path / "head.png"), "--run-dir", str(run), *short, "--out", str(tmp_path / "inv")])
    latent = ["--latent", str(tmp_path / "inv" / "latents.safetensors"), "--count", "1"]
    main(["generate", "--run-dir", str(run), *latent, "--out", str(tmp_path / "again.png")])
    assert (tmp_path / "inv" / "model.safetensors").exists() and (tmp_path / "again.png").exists()


def test_what_one_style_cannot_do(trained, tmp_path, capsys, monkeypatch):
    """Mixing and walks of one part want styles of their own; exporting and blending want CIPS-3D."""
    _, run, _ = trained
    config = load_model(run).generator.config
    monkeypatch.chdir(tmp_path)
    source = ["--run-dir", str(run)]
    mistakes = {
        f"the public CIPS-3D code has no {config.model}": ["export", "--out", "G_ema.pth", *source],
        f"{config.model} has no INR to blend": ["stylise", "--base", str(run), "--target", str(run)],
    }
    mixed = ["mix", "--rows", "1", "--columns", "2", *source]
    if config.appearance_style_dim:
        main([*mixed, "--out", "mixed.png"])
        assert (tmp_path / "mixed.png").exists()
    else:
        mistakes[f"in {config.model} one style gives shape and appearance together"] = mixed
    if not config.z_appearance_dim:
        walk = ["interpolate", "--seeds", "1", "2", "--vary", "shape", "--space", "z", *source]
        mistakes[f"--vary shape: in {config.model} one code"] = walk
    for message, words in mistakes.items():
        with pytest.raises(SystemExit) as exit:
            main(words)
        assert exit.value.code == 2 and message in capsys.readouterr().err
