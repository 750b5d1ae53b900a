import json
import os
import pickle
import struct
import zipfile
import zlib
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from cips3d.data import CorruptImageError, ImageFolder, StyleGANZip, open_dataset


def picture(mode="RGB", size=(12, 12), seed=0):
    channels = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    return Image.fromarray(values if channels > 1 else values[..., 0])


def png(image):
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def zip_of(path, entries):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def huge_png(width, height):
    """A PNG whose header promises a picture that its few bytes would unpack to."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "set" / "deep").mkdir(parents=True)
    picture(seed=1).save(tmp_path / "set" / "b.png")
    picture(seed=2).save(tmp_path / "set" / "deep" / "c.PNG")
    picture(seed=0).save(tmp_path / "set" / "a.png")
    (tmp_path / "set" / "notes.txt").write_text("not a picture")
    return tmp_path / "set"


def test_folder_is_sorted_and_exact(folder):
    dataset = ImageFolder(folder, 12)
    assert len(dataset) == 3
    for index in range(3):
        expected = torch.from_numpy(np.array(picture(seed=index))).permute(2, 0, 1)
        assert torch.equal(dataset[index], expected)
        assert dataset[index].is_contiguous()
    assert dataset.pose(0) is None


def test_zip_equals_folder_and_ignores_labels(folder, tmp_path):
    entries = {f"00000/img{i:08d}.png": png(picture(seed=i)) for i in (1, 0, 2)}
    path = zip_of(tmp_path / "set.zip", {"dataset.json": '{"labels": null}', **entries})
    dataset, same = StyleGANZip(path, 6), ImageFolder(folder, 6)
    assert len(dataset) == 3
    for index in range(3):
        assert torch.equal(dataset[index], same[index])
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[1], dataset[1])


def test_labels_of_cameras_are_read_from_dataset_json(tmp_path):
    numbers = list(range(24)) + [0.5]
    labels = json.dumps({"labels": [["a.png", numbers], ["b.png", 7]]})
    path = zip_of(tmp_path / "set.zip", {"dataset.json": labels, "a.png": png(picture()), "b.png": png(picture())})
    dataset = open_dataset(path, 8)
    assert torch.equal(dataset.camera_label(0), torch.tensor(numbers))
    with pytest.raises(ValueError, match="the data set has none"):
        dataset.camera_label(1)


def test_xflip_doubles_the_set(folder):
    dataset = open_dataset(folder, 8, xflip=True)
    assert len(dataset) == 6
    assert torch.equal(dataset[4], dataset[1].flip(-1))


def test_resize_is_lanczos_after_a_centred_square_crop(tmp_path):
    image = picture(size=(20, 12))
    image.save(tmp_path / "a.png")
    expected = image.crop((4, 0, 16, 12)).resize((8, 8), Image.Resampling.LANCZOS)
    assert torch.equal(ImageFolder(tmp_path, 8)[0], torch.from_numpy(np.array(expected)).permute(2, 0, 1))
    assert ImageFolder(tmp_path, 8).decoded(0, None).shape == (3, 12, 12)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    image = picture().convert(mode) if mode in ("P", "1", "CMYK") else picture(mode)
    name = "a.jpg" if mode == "CMYK" else "a.png"
    image.save(tmp_path / name)
    assert ImageFolder(tmp_path, 12)[0].shape == (3, 12, 12)


def test_transparency_shows_white_and_grey_is_repeated(tmp_path):
    Image.new("RGBA", (4, 4), (10, 20, 30, 0)).save(tmp_path / "a.png")
    Image.fromarray(np.full((4, 4), 77, np.uint8)).save(tmp_path / "b.png")
    Image.fromarray(np.full((4, 4), 77 * 257, np.uint16)).save(tmp_path / "c.png")
    transparent, grey, sixteen_bits = ImageFolder(tmp_path, 4)
    assert (transparent == 255).all()
    assert (grey == 77).all()
    assert (sixteen_bits == 77).all()


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "x/../../a.png", "C:\\a.png", "..\\a.png"])
def test_entries_outside_the_archive_are_refused(tmp_path, name):
    path = zip_of(tmp_path / "set.zip", {name: png(picture())})
    with pytest.raises(ValueError, match=r"set.zip: refused, entry .*a\.png' points outside the archive"):
        StyleGANZip(path, 8)


def test_decompression_bombs_are_refused(tmp_path, monkeypatch):
    path = zip_of(tmp_path / "set.zip", {"a.png": huge_png(8193, 8193), "b.png": huge_png(60000, 60000)})
    dataset = StyleGANZip(path, 8)
    with pytest.raises(ValueError, match=r"set.zip: a.png: refused, 8193 x 8193 pixels"):
        dataset[0]
    with pytest.raises(ValueError, match=r"set.zip: b.png: refused"):
        dataset[1]
    with zipfile.ZipFile(tmp_path / "zeros.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.png", bytes(2**20))
    monkeypatch.setattr("cips3d.data.photographs.MAX_FILE_BYTES", 2**19)
    with pytest.raises(ValueError, match="'zeros.png' unpacks to 1048576 bytes"):
        StyleGANZip(tmp_path / "zeros.zip", 8)


def test_damaged_pictures_are_named(tmp_path):
    data = png(picture(size=(64, 64)))
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.png").write_text("hello")
    Image.new("RGB", (4, 4)).save(tmp_path / "vector.jpg", "GIF")  # a format that is not let in
    dataset = ImageFolder(tmp_path, 8)
    with pytest.raises(ValueError, match=r"cut.png: the image is damaged or cut short"):
        dataset[0]
    with pytest.raises(ValueError, match=r"text.png: not a readable PNG"):
        dataset[1]
    with pytest.raises(ValueError, match=r"vector.jpg: not a readable PNG"):
        dataset[2]


def test_damaged_archives_are_named(tmp_path):
    (tmp_path / "not.zip").write_text("hello")
    with pytest.raises(ValueError, match=r"not.zip: not a readable zip"):
        StyleGANZip(tmp_path / "not.zip", 8)
    path = zip_of(tmp_path / "set.zip", {"a.png": png(picture(size=(64, 64)))})
    data = bytearray(path.read_bytes())
    data[200] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"set.zip: a.png: the entry is damaged"):
        StyleGANZip(path, 8)[0]


def test_what_only_looks_like_a_file_is_named(tmp_path):
    picture().save(tmp_path / "good.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    os.mkfifo(tmp_path / "pipe.png")  # reading it would wait for ever
    with pytest.raises(CorruptImageError, match="link.png: not a file that can be read"):
        ImageFolder(tmp_path, 8)[1]
    with pytest.raises(CorruptImageError, match="pipe.png: not a file that can be read"):
        ImageFolder(tmp_path, 8)[2]


def test_a_folder_that_cannot_be_listed_is_an_error(folder, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(PermissionError, match="set"):
        ImageFolder(folder, 8)


def test_too_large_files_are_refused(folder, monkeypatch):
    monkeypatch.setattr("cips3d.data.photographs.MAX_FILE_BYTES", 100)
    with pytest.raises(CorruptImageError, match=r"a.png: refused, \d+ bytes are more than 100"):
        ImageFolder(folder, 8)[0]


def test_encrypted_and_truncated_zips_are_refused(tmp_path):
    path = zip_of(tmp_path / "set.zip", {"a.png": png(picture())})
    data = path.read_bytes()
    (tmp_path / "cut.zip").write_bytes(data[:-30])
    with pytest.raises(ValueError, match="cut.zip: not a readable zip"):
        StyleGANZip(tmp_path / "cut.zip", 8)
    directory = data.rindex(b"PK\x01\x02")
    path.write_bytes(data[: directory + 8] + b"\x01" + data[directory + 9 :])  # the flag of an encrypted entry
    with pytest.raises(ValueError, match="set.zip: entry 'a.png' is encrypted; write the zip without a password"):
        StyleGANZip(path, 8)


def test_empty_sets_are_errors(tmp_path):
    with pytest.raises(ValueError, match="no images found; wanted files ending in .png"):
        ImageFolder(tmp_path, 8)
    with pytest.raises(ValueError, match="no images found"):
        StyleGANZip(zip_of(tmp_path / "set.zip", {"dataset.json": "{}"}), 8)


def test_open_dataset_says_what_it_wanted(tmp_path):
    (tmp_path / "file.gif").write_text("")
    with pytest.raises(ValueError, match=r"data: .*file.gif is a file but neither .zip nor .tar; wanted .synthetic-he"):
        open_dataset(tmp_path / "file.gif", 8)
    with pytest.raises(ValueError, match=r"'synthetic_heads' does not exist; .* Did you mean .synthetic-heads."):
        open_dataset("synthetic_heads", 8)
    with pytest.raises(ValueError, match="resolution must be at least 1, got 0"):
        open_dataset(tmp_path, 0)
