"""stylise, mix, interpolate and generate --psis show the pictures that their arguments name."""

from pathlib import Path

import numpy as np
import pytest
import torch
from imageio_ffmpeg import count_frames_and_secs
from PIL import Image

from cips3d.cli import main
from cips3d.data import to_uint8
from cips3d.render.video import save_png
from cips3d.training.trained import load_model

SIDE = 16


def tiles(path: Path) -> np.ndarray:
    """The grid's pictures [rows, columns, SIDE, SIDE, 3]."""
    with Image.open(path) as opened:
        pixels = np.asarray(opened)
    height, width, _ = pixels.shape
    return pixels.reshape(height // SIDE, SIDE, width // SIDE, SIDE, 3).swapaxes(1, 2)


def front(model, seed: int) -> np.ndarray:
    image = model.images(*model.codes(1, seed), model.camera_at(torch.zeros(1)))
    return to_uint8(image)[0].permute(1, 2, 0).numpy()


@pytest.fixture
def toons(run_dir, tmp_path) -> Path:
    """A model with another INR over the same NeRF."""
    model = load_model(run_dir)
    for parameter in [*model.generator.inr.parameters(), *model.generator.appearance_mapping.parameters()]:
        parameter.add_(0.3 * torch.randn_like(parameter))
    model.save(tmp_path / "toons.safetensors")
    return tmp_path / "toons.safetensors"


def test_stylise_goes_from_base_to_target(run_dir, toons, tmp_path):
    out = tmp_path / "new" / "grid.png"
    main(["stylise", "--base", str(run_dir), "--target", str(toons), "--count", "3", "--seed", "4", "--out", str(out)])
    grid = tiles(out)
    assert grid.shape[:2] == (3, 5)
    for column, source in ((0, ["--run-dir", str(run_dir)]), (4, ["--checkpoint", str(toons)])):
        main(["generate", *source, "--count", "3", "--columns", "1", "--seed", "4", "--out", str(tmp_path / "one.png")])
        assert np.array_equal(tiles(tmp_path / "one.png")[:, 0], grid[:, column])
    assert len({column.tobytes() for column in grid.swapaxes(0, 1)}) == 5
    with Image.open(out) as opened:
        assert "--strengths 0.0 0.25 0.5 0.75 1.0" in opened.text["Comment"] and "--seed 4" in opened.text["Comment"]


def test_stylise_swaps_blocks_and_saves_the_model(run_dir, toons, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["stylise", "--base", str(run_dir), "--target", str(toons), "--strengths", "1", "--blocks", "1"]
    main([*words, "--save", "swapped.safetensors", "--count", "2", "--seed", "3"])
    main(["generate", "--checkpoint", "swapped.safetensors", "--count", "2", "--columns", "1", "--seed", "3"])
    assert np.array_equal(tiles(Path("stylised-seed3.png")), tiles(Path("generated-seed3.png")))
    swapped, base, target = (load_model(path).generator.inr for path in (Path("swapped.safetensors"), run_dir, toons))
    assert torch.equal(swapped.blocks[1].first.weight, target.blocks[1].first.weight)
    assert torch.equal(swapped.blocks[0].first.weight, base.blocks[0].first.weight)


def test_mix_takes_shapes_from_rows_and_appearances_from_columns(run_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["mix", "--run-dir", str(run_dir), "--rows", "1", "2", "--columns", "1", "5", "2"])
    grid, model = tiles(Path("mixed-1_2-1_5_2.png")), load_model(run_dir)
    assert grid.shape[:2] == (3, 4) and (grid[0, 0] == 255).all()
    for place, seed in (((0, 1), 1), ((0, 2), 5), ((0, 3), 2), ((1, 0), 1), ((2, 0), 2), ((1, 1), 1), ((2, 3), 2)):
        assert np.array_equal(grid[place], front(model, seed)), place
    (shape, _), (_, appearance) = model.codes(1, 2), model.codes(1, 5)
    wanted = to_uint8(model.images(shape, appearance, model.camera_at(torch.zeros(1))))[0].permute(1, 2, 0).numpy()
    assert np.array_equal(grid[2, 2], wanted)
    main(["mix", "--run-dir", str(run_dir), "--rows", "1", "--columns", "5", "--blocks", "1", "--out", "late.png"])
    late = tiles(Path("late.png"))[1]
    assert np.array_equal(late[0], front(model, 1))
    assert not np.array_equal(late[1], late[0]) and not np.array_equal(late[1], grid[1, 2])


@pytest.mark.parametrize("space", ["w", "z"])
def test_interpolate_makes_strips(run_dir, tmp_path, space):
    words = ["interpolate", "--run-dir", str(run_dir), "--seeds", "1", "5", "2", "--space", space]
    main([*words, "--out", str(tmp_path / "strip.png")])
    grid, model = tiles(tmp_path / "strip.png"), load_model(run_dir)
    assert grid.shape[:2] == (2, 7)
    for place, seed in (((0, 0), 1), ((0, 6), 5), ((1, 0), 5), ((1, 6), 2)):
        assert np.abs(grid[place].astype(int) - front(model, seed)).max() <= 1  # rounding of arcs
    assert not np.array_equal(grid[0, 3], grid[0, 0]) and not np.array_equal(grid[0, 3], grid[0, 6])


def test_interpolate_keeps_what_does_not_vary(run_dir, tmp_path):
    words = ["interpolate", "--run-dir", str(run_dir), "--seeds", "1", "5", "--frames", "2", "--psi", "0.7"]
    ends, model = {}, load_model(run_dir)
    for vary in ("shape", "appearance"):
        main([*words, "--vary", vary, "--out", str(tmp_path / f"{vary}.png")])
        ends[vary] = tiles(tmp_path / f"{vary}.png")[0, 1]
    (first, second), camera = (model.codes(1, seed) for seed in (1, 5)), model.camera_at(torch.zeros(1))
    for vary, codes in (("shape", (second[0], first[1])), ("appearance", (first[0], second[1]))):
        wanted = to_uint8(model.images(*codes, camera, truncation_psi=0.7))[0].permute(1, 2, 0).numpy()
        assert np.array_equal(ends[vary], wanted)


def test_interpolate_makes_closed_videos_named_after_their_seeds(run_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["interpolate", "--run-dir", str(run_dir), "--seeds", "1", "5", "--frames", "3"]
    main([*words, "--trajectory", "yaw"])
    assert count_frames_and_secs("walk-1_5.mp4")[0] == 6 and b"--seeds 1 5" in Path("walk-1_5.mp4").read_bytes()
    main([*words, "--out", "frames"])
    frames = [tiles(path)[0, 0] for path in sorted(Path("frames").iterdir())]
    model = load_model(run_dir)
    assert np.array_equal(frames[0], front(model, 1)) and np.array_equal(frames[3], front(model, 5))
    assert np.abs(frames[2].astype(int) - frames[4]).max() <= 1  # there and back


def test_a_picture_that_fails_leaves_the_one_before(tmp_path):
    save_png(Image.new("RGB", (2, 2)), tmp_path / "x.png", "first")

    class FullDisk:
        def save(self, file, *_, **__):
            file.write(b"half")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        save_png(FullDisk(), tmp_path / "x.png", "second")
    with Image.open(tmp_path / "x.png") as opened:
        assert opened.text["Comment"] == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_generate_shows_truncations(run_dir, tmp_path):
    words = ["generate", "--run-dir", str(run_dir), "--count", "2"]
    main([*words, "--psis", "0.2", "1", "--out", str(tmp_path / "psis.png")])
    grid = tiles(tmp_path / "psis.png")
    for column, psi in enumerate(("0.2", "1")):
        main([*words, "--psi", psi, "--columns", "1", "--out", str(tmp_path / "one.png")])
        assert np.array_equal(grid[:, column], tiles(tmp_path / "one.png")[:, 0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stylise", "--base", "{run}", "--target", "nowhere"], "there is no model nowhere"),
        (["stylise", "--base", "{run}", "--target", "{run}", "--strengths", "2"], "strength must be in [0,1], got 2.0"),
        (["stylise", "--base", "{run}", "--target", "{run}", "--blocks", "9"], "blocks must be in 0 .. 1, got 9"),
        (["stylise", "--base", "{run}", "--target", "{run}", "--save", "x.safetensors"], "wants one of --strengths"),
        (
            ["stylise", "--base", "{run}", "--target", "{run}", "--strengths", "1", "--save", "x.pt"],
            "end in .safetensors",
        ),
        (["mix", "--run-dir", "{run}", "--rows", "1", "--columns", "2", "--blocks", "-1"], "blocks must be in 0 .. 1"),
        (["mix", "--run-dir", "{run}", "--rows", "1", "--columns", "9" * 20], "--columns must be in -2^63"),
        (["interpolate", "--run-dir", "{run}", "--seeds", "1"], "--seeds and --frames must be at least 2"),
        (["interpolate", "--run-dir", "{run}", "--seeds", "1", "2", "--out", "x.avi"], "got x.avi"),
        (
            ["interpolate", "--run-dir", "{run}", "--seeds", "1", "2", "--out", "x.png", "--trajectory", "yaw"],
            "--trajectory is for videos",
        ),
        (["generate", "--run-dir", "{run}", "--psis", "1", "inf"], "--psis must be a number, got inf"),
    ],
)
def test_mistakes(mistake, words, message, tmp_path):
    assert message in mistake(words)
    assert not list(tmp_path.iterdir())
