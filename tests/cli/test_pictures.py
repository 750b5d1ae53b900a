"""generate, render and data write what they promise."""

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from imageio_ffmpeg import count_frames_and_secs
from PIL import Image

from cips3d.cli import main
from cips3d.cli.render import PITCH_SPREADS, PREVIEW, YAW_SPREADS
from cips3d.data import to_uint8
from cips3d.models import Generator, GeneratorConfig, export_official
from cips3d.render.trajectories import TRAJECTORIES, camera_at
from cips3d.render.video import write_video
from cips3d.training.model_file import SHIPPED
from cips3d.training.trained import load_model


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as opened:
        return np.asarray(opened)


def test_generate_writes_the_same_grid_for_the_same_seed(run_dir, tmp_path):
    words = ["generate", "--run-dir", str(run_dir), "--count", "5", "--columns", "3"]
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        main([*words, "--seed", str(seed), "--out", str(tmp_path / f"{name}.png")])
    a, b, c = (picture(tmp_path / f"{name}.png") for name in "abc")
    assert a.shape == (2 * 16, 3 * 16, 3)
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_generate_names_its_file_after_the_seed(run_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["generate", "--run-dir", str(run_dir), "--count", "1", "--seed", "5", "--psi", "0.5"])
    with Image.open("generated-seed5.png") as opened:
        assert "--seed 5 --psi 0.5" in opened.text["Comment"]


def test_generate_turns_heads(run_dir, tmp_path):
    out = tmp_path / "new folder" / "turned.png"
    main(["generate", "--run-dir", str(run_dir), "--count", "2", "--yaws", "3", "--resolution", "8", "--out", str(out)])
    assert picture(out).shape == (2 * 8, 3 * 8, 3)
    words = ["generate", "--checkpoint", str(run_dir / "checkpoints" / "latest.pt"), "--count", "2", "--yaws", "3"]
    main([*words, "--resolution", "8", "--out", str(tmp_path / "again.png")])
    assert np.array_equal(picture(tmp_path / "again.png"), picture(out))


def test_generate_from_an_official_state_dict(tmp_path):
    small = GeneratorConfig(field_width=8, colour_width=4, inr_width=8)
    torch.save(export_official(Generator(small)), tmp_path / "G_ema.pth")
    out = tmp_path / "x.png"
    words = ["generate", "--checkpoint", str(tmp_path / "G_ema.pth"), "--count", "1", "--resolution", "8"]
    main([*words, "--psi", "0.7", "--out", str(out)])
    assert picture(out).shape == (8, 8, 3)


def test_render_writes_videos(run_dir, tmp_path):
    words = ["render", "--run-dir", str(run_dir), "--heads", "2", "--frames", "3", "--out"]
    main([*words, str(tmp_path / "turn.gif")])
    main([*words, str(tmp_path / "turn.mp4")])
    with Image.open(tmp_path / "turn.gif") as gif:
        assert gif.n_frames == 3 and gif.size == (32, 16)
        assert b"--seed 0" in gif.info["comment"] and gif.info["loop"] == 0
    assert count_frames_and_secs(tmp_path / "turn.mp4")[0] == 3


def test_render_writes_panels_to_a_folder_with_its_arguments(run_dir, tmp_path):
    out = tmp_path / "new" / "frames"
    words = ["render", "--run-dir", str(run_dir), "--frames", "2", "--heads", "3", "--resolution", "8", "--seed", "7"]
    main([*words, "--trajectory", "translate-rotate", "--samples", "5", "--panels", "inr", "normal", "--out", str(out)])
    assert sorted(path.name for path in out.iterdir()) == ["frame_0000.png", "frame_0001.png"]
    with Image.open(out / "frame_0001.png") as frame:
        assert frame.size == (2 * 8, 3 * 8)  # a row for each head
        assert "--seed 7" in frame.text["Comment"] and "--panels inr normal" in frame.text["Comment"]


def test_render_names_its_file_after_path_and_seed(run_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["render", "--run-dir", str(run_dir), "--frames", "2", "--trajectory", "yaw", "--seed", "5"])
    assert b"--seed 5" in (tmp_path / "render-yaw-seed5.mp4").read_bytes()


@pytest.mark.parametrize("trajectory", TRAJECTORIES)
def test_render_follows_its_trajectory(run_dir, tmp_path, trajectory):
    """Every frame is the picture of the trajectory's camera."""
    words = ["render", "--run-dir", str(run_dir), "--frames", "3", "--resolution", "8", "--trajectory", trajectory]
    main([*words, "--out", str(tmp_path / "frames")])
    model = load_model(run_dir)
    for frame in range(3):
        camera = camera_at(trajectory, model.swing(YAW_SPREADS, PITCH_SPREADS), frame, 3)
        wanted = to_uint8(model.images(*model.codes(1, 0), camera, 8))[0].permute(1, 2, 0).numpy()
        assert np.array_equal(picture(tmp_path / "frames" / f"frame_000{frame}.png"), wanted)


def test_render_shows_depth_in_one_range_for_the_whole_video(run_dir, tmp_path):
    words = ["render", "--run-dir", str(run_dir), "--frames", "3", "--trajectory", "yaw", "--panels", "depth"]
    main([*words, "--resolution", str(PREVIEW), "--out", str(tmp_path / "depth")])
    model = load_model(run_dir)
    swing = model.swing(YAW_SPREADS, PITCH_SPREADS)
    cameras = [camera_at("yaw", swing, frame, 3) for frame in range(3)]
    depth = torch.cat([model.views(*model.codes(1, 0), c, ["depth"], PREVIEW)["depth"][0] for c in cameras])
    grey = 255 * (depth.max() - depth) / (depth.max() - depth.min())
    frames = np.stack([picture(tmp_path / "depth" / f"frame_000{frame}.png") for frame in range(3)])
    assert frames.min() == 0 and frames.max() == 255
    assert np.abs(frames - grey[..., None].numpy()).max() < 1


def test_video_needs_a_known_suffix(tmp_path):
    with pytest.raises(ValueError, match=r"must end in .mp4 or .gif, or have no suffix .* got x.avi"):
        write_video(torch.zeros(1, 3, 4, 4), tmp_path / "x.avi", 24)


def test_a_video_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "taken.mp4").mkdir()
    with pytest.raises(IsADirectoryError):
        write_video(torch.zeros(1, 3, 4, 4), tmp_path / "taken.mp4", 24)
    (tmp_path / "full.tmp.mp4").symlink_to("/dev/full")  # every write to it fails as on a full disk
    with pytest.raises(OSError, match="ffmpeg could not write"):
        write_video(torch.zeros(1, 3, 4, 4), tmp_path / "full.mp4", 24)


@pytest.mark.parametrize("name", ["turn.mp4", "turn.gif"])
def test_an_interrupted_video_leaves_what_was_there(tmp_path, name):
    def frames():
        yield from torch.zeros(2, 3, 4, 4)
        raise KeyboardInterrupt

    (tmp_path / name).write_bytes(b"the last one")
    with pytest.raises(KeyboardInterrupt):
        write_video(frames(), tmp_path / name, 24)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"the last one"


def test_frames_are_written_as_they_come(tmp_path):
    """Memory: of a folder's frames only one is there at a time."""
    written = []

    def frames():
        for _ in range(3):
            written.append(len(list(tmp_path.glob("frames/*.png"))))
            yield torch.zeros(3, 4, 4)

    write_video(frames(), tmp_path / "frames", 24)
    assert written == [0, 1, 2]
    write_video(torch.zeros(1, 3, 4, 4), tmp_path / "frames", 24)
    assert len(list(tmp_path.glob("frames/*.png"))) == 1  # overwritten as a file is


def test_render_names_a_wrong_suffix_before_it_renders(run_dir, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["render", "--run-dir", str(run_dir), "--out", str(tmp_path / "x.avi")])
    error = capsys.readouterr().err
    assert "must end in .mp4 or .gif" in error and "got x.avi" in error and "frame" not in error


def test_mesh_writes_a_closed_surface_named_after_the_seed(run_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["mesh", "--run-dir", str(run_dir), "--resolution", "16", "--seed", "5"])
    assert b"--seed 5" in Path("mesh-seed5.ply").read_bytes()
    assert trimesh.load_mesh("mesh-seed5.ply", process=False).is_watertight


def test_mesh_names_a_wrong_suffix_before_it_works(run_dir, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["mesh", "--run-dir", str(run_dir), "--out", str(tmp_path / "x.stl")])
    error = capsys.readouterr().err
    assert "must end in .ply, .obj, .glb, got x.stl" in error and "density" not in error


def test_data_make_inspect_and_lfw(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    heads, toons, faces = (str(tmp_path / f"{name}.zip") for name in ("heads", "toons", "faces"))
    main(["data", "make", heads, "--count", "3", "--resolution", "8"])
    main(["data", "make", toons, "--count", "3", "--resolution", "8", "--set", "toon-heads"])
    main(["data", "lfw", faces])
    main(["data", "inspect", heads, "--grid", str(tmp_path / "grid.png")])
    main(["data", "inspect", faces])
    text = capsys.readouterr().out
    assert "3 images in" in text and Path(toons).stat().st_size and "100 images in" in text
    assert "StyleGANZip" in text and picture(tmp_path / "grid.png").shape[1] == 2 * 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["generate", "--run-dir", "{run}", "--count", "0", "--out", "x.png"], "--count and --yaws must be at least 1"),
        (["generate", "--run-dir", "{run}", "--resolution", "0", "--out", "x.png"], "--resolution must be at least 1"),
        (["generate", "--run-dir", "{run}", "--out", "x.jpg"], "--out must end in .png, got x.jpg"),
        (
            ["generate", "--run-dir", "{run}", "--seed", "9" * 20, "--out", "x.png"],
            "--seed must be in -2^63 .. 2^63 - 1",
        ),
        (["render", "--run-dir", "{run}", "--psi", "nan", "--out", "x.gif"], "--psi must be a number, got nan"),
        (["render", "--run-dir", "{run}", "--frames", "0", "--out", "x.gif"], "--frames must be at least 1, got 0"),
        (["render", "--run-dir", "{run}", "--samples", "2", "--out", "x.gif"], "samples_per_ray must be at least 3"),
        (["render", "--run-dir", "{run}", "--panels", "colour"], "invalid choice: 'colour'"),
        (["render", "--run-dir", "{run}", "--trajectory", "spiral"], "invalid choice: 'spiral'"),
        (
            ["mesh", "--run-dir", "{run}", "--resolution", "1", "--out", "x.ply"],
            "resolution must be in 2 .. 1024, got 1",
        ),
        (["mesh", "--run-dir", "{run}", "--resolution", "8", "--level", "1e9"], "nowhere 1e+09; give a level between"),
        (["mesh", "--run-dir", "nowhere"], "there is no model nowhere"),
        (["data", "make", "x.zip", "--count", "0"], "--count and --resolution must be at least 1"),
        (["data", "inspect", "nowhere.zip"], "nowhere.zip"),
        (["bench", "--rounds", "0"], "--rounds and --threads must be at least 1"),
    ],
)
def test_mistakes(mistake, words, message):
    assert message in mistake(words)


def test_export_writes_model_files_that_other_commands_take(run_dir, tmp_path):
    main(["export", "--run-dir", str(run_dir), "--out", str(tmp_path / "m.safetensors")])
    words = ["--count", "2", "--seed", "3", "--out"]
    main(["generate", "--run-dir", str(run_dir), *words, str(tmp_path / "a.png")])
    main(["generate", "--checkpoint", str(tmp_path / "m.safetensors"), *words, str(tmp_path / "b.png")])
    assert np.array_equal(picture(tmp_path / "a.png"), picture(tmp_path / "b.png"))


def test_export_writes_official_state_dicts_and_refuses_other_files(tmp_path, capsys):
    official = export_official(Generator(GeneratorConfig(field_width=8, colour_width=4, inr_width=8)))
    torch.save(official, tmp_path / "in.pth")
    words = ["export", "--checkpoint", str(tmp_path / "in.pth"), "--out"]
    main([*words, str(tmp_path / "out.pth")])
    written = torch.load(tmp_path / "out.pth", weights_only=True)
    assert written.keys() == official.keys() and all(torch.equal(written[key], official[key]) for key in official)
    with pytest.raises(SystemExit, match="2"):
        main([*words, str(tmp_path / "out.onnx")])
    assert "--out must end in .safetensors or .pth, got out.onnx" in capsys.readouterr().err


def test_without_a_model_the_shipped_heads_are_shown(tmp_path, capsys):
    assert SHIPPED.stat().st_size < 5e6
    main(["generate", "--count", "2", "--yaws", "3", "--resolution", "16", "--out", str(tmp_path / "heads.png")])
    images = picture(tmp_path / "heads.png").reshape(2, 16, 3, 16, 3).swapaxes(1, 2).astype(float)  # head, yaw
    turns = np.abs(images[:, 0] - images[:, 2]).mean()
    heads = np.abs(images[0] - images[1]).mean()
    assert heads > turns > 2  # other heads differ by more than other views of one
    with SHIPPED.open("rb") as file:
        assert b"--run-dir runs/heads" in file.read(10_000)
