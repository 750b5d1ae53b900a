import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import cips3d
from cips3d.data import SyntheticHeads, shards, synthetic
from cips3d.data.heads import render_indexed
from cips3d.render.labels import label_camera


def heads(folder, size=4, resolution=8, **options):
    return SyntheticHeads(resolution, size, 0, folder, progress=False, **options)


def test_items_are_the_rendered_heads(tmp_path):
    dataset = heads(tmp_path)
    assert len(dataset) == 4
    for index in range(4):
        assert dataset[index].dtype == torch.uint8
        assert torch.equal(dataset[index], render_indexed(0, index, 8, shards.supersample(8)).image)
    with pytest.raises(IndexError):
        dataset[4]


def test_toons_have_the_shapes_and_poses_of_the_heads_and_their_own_cache(tmp_path):
    dataset, toons = heads(tmp_path), heads(tmp_path, name="toon-heads")
    assert toons.path.name == "toon-heads-v1-r8-s0-n4.npy" and dataset.path != toons.path
    for index in range(4):
        assert torch.equal(toons[index], render_indexed(0, index, 8, shards.supersample(8), "toon").image)
        assert toons.pose(index) == dataset.pose(index)
        assert torch.equal(toons.render(index).depth, dataset.render(index).depth)
        assert not torch.equal(toons[index], dataset[index])


def test_labels_are_the_cameras_of_the_poses(tmp_path):
    dataset = heads(tmp_path, xflip=True)
    cameras = label_camera(torch.stack([dataset.camera_label(index) for index in range(8)]), 8)
    assert cameras.fov_deg == pytest.approx(12.0)
    poses = torch.tensor([dataset.pose(index) for index in range(8)])
    torch.testing.assert_close(cameras.pitch_yaw.flip(-1), poses, atol=1e-3, rtol=0)  # arccos near 0 in float32


def test_mirrored_heads_have_mirrored_pictures_and_poses(tmp_path):
    dataset = heads(tmp_path, xflip=True)
    assert len(dataset) == 8
    assert torch.equal(dataset[5], dataset[1].flip(-1))
    (yaw, pitch), (mirrored_yaw, mirrored_pitch) = dataset.pose(1), dataset.pose(5)
    assert mirrored_yaw == pytest.approx(math.pi - yaw)
    assert mirrored_pitch == pitch


def test_second_use_reads_the_cache(tmp_path, monkeypatch):
    first = heads(tmp_path)
    monkeypatch.setattr(synthetic, "render_shards", None)  # would raise if it were called
    assert torch.equal(heads(tmp_path)[3], first[3])
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".lock", ".npy"]


def test_an_interrupted_rendering_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 2)
    monkeypatch.setattr(synthetic, "SHARD", 2)
    render = shards.render_shard

    def interrupted(seed, start, *rest):
        if start == 4:
            raise KeyboardInterrupt
        render(seed, start, *rest)

    monkeypatch.setattr(shards, "render_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        heads(tmp_path, size=7)
    rendered = []
    monkeypatch.setattr(shards, "render_shard", lambda *args: (rendered.append(args[1]), render(*args)))
    dataset = heads(tmp_path, size=7)
    assert rendered == [4, 6]
    assert torch.equal(dataset[0], render_indexed(0, 0, 8, shards.supersample(8)).image)
    assert torch.equal(dataset[6], render_indexed(0, 6, 8, shards.supersample(8)).image)


def test_a_foreign_cache_file_is_named(tmp_path):
    path = heads(tmp_path).path
    np.save(path, np.zeros((2, 3, 8, 8), np.uint8))
    with pytest.raises(ValueError, match=rf"{path.name}.*wanted uint8 \(4, 3, 8, 8\)"):
        heads(tmp_path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=f"{path.name}.*cannot be read"):
        heads(tmp_path)


def test_worker_processes_render_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    starts = list(range(2 * shards.SHARDS_PER_WORKER))
    done = list(shards.render_shards(starts, len(starts), 5, 8, "toon", tmp_path))
    assert sorted(done) == starts
    for start in starts:
        picture = np.load(shards.shard_path(tmp_path, start))[0]
        np.testing.assert_array_equal(picture, render_indexed(5, start, 8, shards.supersample(8), "toon").image)


def test_a_failing_worker_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with pytest.raises(RuntimeError, match="a render worker ended with status 1"):
        list(shards.render_shards(list(range(8)), 8, 0, 8, "natural", tmp_path / "missing"))


def test_two_processes_may_ask_for_the_same_set(tmp_path):
    program = (
        "import sys; from cips3d.data import SyntheticHeads; "
        "print(sum(int(x.sum()) for x in SyntheticHeads(8, 30, 0, sys.argv[1], progress=False)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(cips3d.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    sums = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sums[0] == sums[1] == f"{sum(int(image.sum()) for image in heads(tmp_path, size=30))}\n"
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".lock", ".npy"]


def test_size_and_seed_are_checked(tmp_path):
    with pytest.raises(ValueError, match="size must be >= 1 and seed >= 0, got size 0, seed 0"):
        heads(tmp_path, size=0)


def test_default_cache_follows_the_environment(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert synthetic.default_cache_dir() == Path("/somewhere/cips3d")
