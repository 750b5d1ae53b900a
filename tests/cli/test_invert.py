"""invert writes its folder, and other commands take what it found."""

import json

import numpy as np
import pytest
import torch
from imageio_ffmpeg import count_frames_and_secs
from PIL import Image

from cips3d.cli import invert as command
from cips3d.cli import main
from cips3d.data import to_float, to_uint8
from cips3d.inversion import load_latents
from cips3d.inversion.optimise import psnr
from cips3d.training.trained import load_model

SHORT = ["--starts", "2", "--steps", "2"]


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(command, "FRAMES", 3)


@pytest.fixture
def face(tmp_path):
    """Not square: the middle is a ramp, the sides are white."""
    pixels = np.full((20, 40, 3), 255, dtype=np.uint8)
    pixels[:, 10:30] = np.linspace(0, 200, 20, dtype=np.uint8)[:, None, None]
    Image.fromarray(pixels).save(tmp_path / "face.png")
    return tmp_path / "face.png"


def test_an_image_and_what_other_commands_make_of_it(run_dir, face, tmp_path):
    source, out = ["--run-dir", str(run_dir)], tmp_path / "new" / "folder"
    main(["invert", str(face), *source, *SHORT, "--seed", "4", "--out", str(out)])
    assert sorted(path.name for path in out.iterdir()) == [
        "inverted.png",
        "latents.safetensors",
        "report.json",
        "turn.mp4",
    ]
    assert count_frames_and_secs(out / "turn.mp4")[0] == 3
    report = json.loads((out / "report.json").read_text())
    assert report["seed"] == 4 and report["psnr"] > 0
    assert report["command"].startswith(f"cips3d invert {face} --run-dir {run_dir} ")
    with Image.open(out / "inverted.png") as strip:
        assert strip.size == (7 * 16, 16) and "--seed 4" in strip.text["Comment"]
        pixels = np.asarray(strip)
    assert pixels[:, :16].max() < 210  # the middle alone

    model = load_model(run_dir)
    latents = load_latents(out / "latents.safetensors", model)
    assert latents.yaw.item() == pytest.approx(report["yaw"])
    latent = ["--latent", str(out / "latents.safetensors")]
    main(["generate", *source, *latent, "--count", "1", "--yaws", "5", "--out", str(tmp_path / "g.png")])
    with Image.open(tmp_path / "g.png") as poses:
        assert np.array_equal(np.asarray(poses), pixels[:, 2 * 16 :])
    main(["render", *source, *latent, "--frames", "2", "--resolution", "8", "--out", str(tmp_path / "frames")])
    main(["mesh", *source, *latent, "--resolution", "8", "--out", str(tmp_path / "head.ply")])
    assert (tmp_path / "frames" / "frame_0001.png").exists() and (tmp_path / "head.ply").exists()


def test_a_tuned_model_shows_the_reconstruction(run_dir, face, tmp_path, capsys):
    words = ["--space", "z", "--pose-deg", "5", "-3", "--tune-steps", "3", "--out", str(tmp_path / "out")]
    main(["invert", str(face), "--run-dir", str(run_dir), *SHORT, *words])
    assert "yaw +5.0, pitch -3.0 degrees" in capsys.readouterr().out
    model = load_model(tmp_path / "out" / "model.safetensors")
    latents = load_latents(tmp_path / "out" / "latents.safetensors", model)
    offset = latents.yaw - model.camera.yaw_mean, latents.pitch - model.camera.pitch_mean
    image = model.style_views(latents.w_shape, latents.w_appearance, model.camera_at(*offset))["inr"][0]
    with Image.open(tmp_path / "out" / "inverted.png") as strip:
        pixels = torch.from_numpy(np.array(strip)).permute(2, 0, 1)
    assert torch.equal(to_uint8(image), pixels[..., 16:32])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert psnr(image, to_float(pixels[..., :16])) == pytest.approx(report["psnr"], abs=1e-3)


def test_measuring_on_heads_of_known_truth(run_dir, tmp_path, capsys):
    words = ["--data", "synthetic-heads", "--count", "2", "--out", str(tmp_path / "out")]
    main(["invert", "--run-dir", str(run_dir), *SHORT, *words])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert len(report["images"]) == 2 and "--count 2" in report["command"]
    text = capsys.readouterr().out
    for name, values in report["summary"].items():
        assert f"{name:<16}" + "".join(f"{value:>10.2f}" for value in values.values()) in text
    with Image.open(tmp_path / "out" / "inverted.png") as rows:
        assert rows.size == (10 * 16, 2 * 16)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "one of the arguments IMAGE --data is required"),
        (["x.png", "--data", "generated"], "not allowed with argument"),
        (["x.png"], "x.png"),
        (["{face}", "--steps", "0"], "steps must be at least 1, got 0"),
        (["{face}", "--pose-deg", "nan", "0"], "the pose must be two numbers"),
        (["--data", "generated", "--count", "0"], "--count must be at least 1"),
        (["--data", "generated", "--pose-deg", "0", "0"], "--pose-deg is for one IMAGE"),
        (["{run}/config.yaml"], "not a readable PNG"),
    ],
)
def test_mistakes(mistake, run_dir, face, words, message, tmp_path):
    words = [word.replace("{face}", str(face)) for word in words]
    assert message in mistake(["invert", *words, "--run-dir", str(run_dir)])
    assert not list(tmp_path.glob("inverted*"))  # nothing is begun
