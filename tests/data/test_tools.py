import numpy as np
import pytest
import torch

from cips3d.data import (
    StyleGANZip,
    SyntheticHeads,
    image_grid,
    inspect,
    make_lfw,
    make_synthetic,
    open_as_stored,
    open_dataset,
    to_float,
    to_uint8,
    write_images,
)
from cips3d.data.synthetic import PROCEDURAL


def test_uint8_survives_the_network_range():
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(values)), values)
    assert to_float(values)[[0, 255]].tolist() == [-1, 1]
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_grid_is_row_by_row():
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 3, 2, 4) + 1
    grid = np.asarray(image_grid(images, columns=3))
    assert grid.shape == (4, 12, 3)
    assert grid[::2, ::4, 0].tolist() == [[1, 2, 3], [4, 5, 0]]
    assert image_grid(images[:, :1]).size == (12, 4)
    with pytest.raises(ValueError, match=r"images must be .* got \(3, 2, 4\)"):
        image_grid(images[0])


def test_zip_round_trip_is_exact_and_reproducible(tmp_path):
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert write_images(images, tmp_path / "a.zip") == 3
    dataset = open_dataset(tmp_path / "a.zip", 8)
    assert isinstance(dataset, StyleGANZip)
    assert torch.equal(torch.stack(list(dataset)), images)
    write_images(images, tmp_path / "sub" / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "sub" / "b.zip").read_bytes()
    with pytest.raises(ValueError, match=r"image must be uint8 \[1 or 3, H, W\], got torch.float32 \(3, 8, 8\)"):
        write_images(images.float(), tmp_path / "c.zip")
    assert not (tmp_path / "c.zip").exists()


def test_synthetic_zip_and_inspect(tmp_path):
    assert make_synthetic(tmp_path / "heads.zip", 3, 8, cache_dir=tmp_path, progress=False) == 3
    summary, grid = inspect(open_as_stored(tmp_path / "heads.zip"))
    assert summary["images"] == 3 and summary["resolution"] == 8 and "yaw" not in summary
    assert grid.size == (16, 16)
    for name in PROCEDURAL:
        summary, _ = inspect(open_as_stored(name, 8, size=3, cache_dir=tmp_path, progress=False))
        assert summary["kind"] == "SyntheticHeads" and summary["yaw"].endswith("rad")
    make_synthetic(tmp_path / "toons.zip", 3, 8, cache_dir=tmp_path, progress=False, name="toon-heads")
    toons = SyntheticHeads(8, 3, cache_dir=tmp_path, name="toon-heads")
    assert torch.equal(torch.stack(list(open_dataset(tmp_path / "toons.zip", 8))), torch.stack(list(toons)))


def test_faces_of_lfw_make_a_zip(tmp_path):
    assert make_lfw(tmp_path / "lfw.zip") == 100
    dataset = open_dataset(tmp_path / "lfw.zip", 25)
    assert len(dataset) == 100
    image = dataset[0]
    assert image.shape == (3, 25, 25) and image.float().std() > 10
    assert torch.equal(image[0], image[1])
    assert dataset.decoded(0, None).shape == (3, 25, 25)
    assert open_dataset(tmp_path / "lfw.zip", 32)[99].shape == (3, 32, 32)
