"""What a run shows: the overview's blocks and titles, the video, TensorBoard's and W&B's share, resuming at W&B."""

import dataclasses
import json
import sys
import types
from io import BytesIO

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cips3d.config import ConfigError
from cips3d.config.training import replace
from cips3d.models import Generator
from cips3d.training import reporting, snapshots
from cips3d.training.loop import train
from cips3d.training.snapshots import MARGIN, SMALLEST_TILE, TITLE_HEIGHT, VIDEO_FRAMES, overview, turning_heads
from cips3d.training.trained import TrainedModel

HEADS = 2


@pytest.fixture
def models(tiny):
    """A raw and an averaged model of other weights, whose styles spread far enough for truncation to show."""
    config = tiny()

    def model(seed):
        torch.manual_seed(seed)
        generator = Generator(config.generator).eval()
        with torch.no_grad():
            for parameter in generator.parameters():
                parameter.add_(0.5 * torch.randn_like(parameter))
        return TrainedModel(generator, config.camera, config.render, 16)

    return model(0), model(1)


def tiles(models, monkeypatch):
    """The overview's picture, and the pixels [heads,3,3,S,S] of its blocks by the first word of their titles."""
    blocks = []
    joined = snapshots._joined
    monkeypatch.setattr(snapshots, "_joined", lambda made: blocks.extend(made) or joined(made))
    return overview(*models, HEADS), {block.title: block.images for block in blocks}


def test_the_overviews_blocks_are_what_their_titles_say(models, monkeypatch):
    raw, averaged = models
    picture, blocks = tiles(models, monkeypatch)
    assert list(blocks) == [
        "EMA, yaw -26\N{DEGREE SIGN}, 0, +26\N{DEGREE SIGN}",
        "raw weights, same yaws",
        "EMA, psi 0.7, same yaws",
        "EMA, pitch -13\N{DEGREE SIGN} (from above), 0, +13\N{DEGREE SIGN}",
        "mirror test: yaw +26\N{DEGREE SIGN}, -26\N{DEGREE SIGN}, -26\N{DEGREE SIGN} mirrored",
    ]
    ema, raws, truncated, tilted, mirror = blocks.values()
    codes, yaw, pitch = averaged.codes(HEADS, 0), torch.full((HEADS,), 0.45), 1.5 * 0.155
    close = {"rtol": 0, "atol": 1e-5}
    torch.testing.assert_close(ema[:, 2], averaged.images(*codes, averaged.camera_at(yaw)), **close)
    torch.testing.assert_close(raws[:, 0], raw.images(*codes, raw.camera_at(-yaw)), **close)
    torch.testing.assert_close(
        truncated[:, 0], averaged.images(*codes, averaged.camera_at(-yaw), truncation_psi=0.7), **close
    )
    assert not torch.allclose(truncated, ema, atol=1e-3)
    above = averaged.camera_at(torch.zeros(HEADS), -pitch)
    assert torch.all(above.cam2world[:, 1, 3] > 0), "the camera is above the head"
    torch.testing.assert_close(tilted[:, 0], averaged.images(*codes, above), **close)
    assert torch.equal(tilted[:, 1], ema[:, 1])
    assert torch.equal(mirror[:, 0], ema[:, 2]) and torch.equal(mirror[:, 1], ema[:, 0])
    assert torch.equal(mirror[:, 2], ema[:, 0].flip(-1))
    assert picture.size == (
        5 * (3 * SMALLEST_TILE + MARGIN) + MARGIN,
        HEADS * SMALLEST_TILE + TITLE_HEIGHT + 2 * MARGIN,
    )


def test_truncation_follows_the_averaged_weights(models, monkeypatch):
    averaged = models[1]
    averaged.generator.update_mean_styles()
    with torch.no_grad():
        averaged.generator.shape_mapping.linears[-1].bias.add_(1.0)  # as training does, behind the cached means
    before = averaged.generator.mean_w_shape.clone()
    tiles(models, monkeypatch)
    torch.testing.assert_close(averaged.generator.mean_w_shape, before + 1.0)


def test_large_pictures_are_bounded(models, monkeypatch):
    monkeypatch.setattr(snapshots, "LARGEST_TILE", 8)
    monkeypatch.setattr(snapshots, "VIDEO_TILE", 8)
    blocks = tiles(models, monkeypatch)[1]
    assert {block.shape[-1] for block in blocks.values()} == {8}
    assert next(turning_heads(models[1], 9)).shape == (3, 96, 4 * 96)


def events(run_dir):
    accumulator = EventAccumulator(str(run_dir / "tensorboard"))
    accumulator.Reload()
    return accumulator


def test_tensorboard_has_scalars_pictures_and_the_video(tiny, tmp_path):
    train(replace(tiny(), "output", sample_every=2), tmp_path)
    shown = events(tmp_path)
    stats = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    logged = {event.step: event.value for event in shown.Scalars("g_loss")}
    assert logged == pytest.approx({row["step"]: row["g_loss"] for row in stats})
    assert [event.step for event in shown.Images("samples")] == [2, 4, 6]
    (video,) = shown.Images("turning")
    written = (tmp_path / "samples" / "000006.gif").read_bytes()
    assert video.step == 6 and video.encoded_image_string == written
    with Image.open(BytesIO(written)) as gif:
        assert gif.n_frames == VIDEO_FRAMES and gif.size == (video.width, video.height) == (2 * 96, 96)
    with Image.open(tmp_path / "samples" / "000006.png") as picture:
        assert picture.text["Comment"] == "step 6, seed 0"


def test_a_video_comes_every_few_pictures(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(reporting, "PICTURES_A_VIDEO", 2)
    train(tiny("output.sample_every=1", "schedule.steps=5"), tmp_path)
    assert [path.stem for path in sorted((tmp_path / "samples").glob("*.gif"))] == ["000002", "000004", "000005"]


class FakeWandb(types.ModuleType):
    """Records what a run is told, as the package's own `init`, `Image` and `Video` are called."""

    class Error(Exception):
        pass

    def __init__(self):
        super().__init__("wandb")
        self.runs, self.finished = [], 0
        self.Image = lambda picture: ("image", picture.size)
        self.Video = lambda path, format: ("video", path, format)

    def init(self, **settings):
        run = types.SimpleNamespace(settings=settings, rows=[], metrics=[])
        run.log = run.rows.append
        run.define_metric = lambda name, step_metric=None: run.metrics.append((name, step_metric))
        run.finish = lambda: setattr(self, "finished", self.finished + 1)
        self.runs.append(run)
        return run


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_wandb_is_told_everything_and_resumes_its_run(tiny, tmp_path, wandb):
    config, run_dir = replace(tiny(), "output", wandb="heads"), tmp_path / "first"
    train(replace(config, "schedule", last_step=3), run_dir)
    train(config, run_dir)
    first, second = wandb.runs
    assert wandb.finished == 2
    assert first.settings["id"] == second.settings["id"] and second.settings["resume"] == "allow"
    assert (first.settings["project"], first.settings["name"]) == ("heads", "first")
    assert first.settings["dir"] == str(run_dir) and first.settings["config"]["optimizer"]["batch_size"] == 2
    assert first.metrics == [("step", None), ("*", "step")]
    steps = [row["step"] for run in wandb.runs for row in run.rows if "g_loss" in row]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert [row["samples"][0] for row in second.rows if "samples" in row] == ["image"]
    assert [row["turning"][1:] for row in second.rows if "turning" in row] == [
        (str(run_dir / "samples" / "000006.gif"), "gif")
    ]
    train(dataclasses.replace(config, seed=1), tmp_path / "other")
    assert wandb.runs[2].settings["id"] != first.settings["id"]


def test_wandb_that_is_missing_or_does_not_start(tiny, tmp_path, wandb, monkeypatch):
    config = replace(tiny(), "output", wandb="heads")

    def refuse(**settings):
        raise wandb.Error("no API key configured")

    wandb.init = refuse
    with pytest.raises(ConfigError, match=r"W&B does not start: no API key configured; log in .*WANDB_MODE=offline"):
        train(config, tmp_path / "refused")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"output.wandb is 'heads', but .* not installed; install the extra wandb"):
        train(config, tmp_path / "missing")
