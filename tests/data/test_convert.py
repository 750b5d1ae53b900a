"""Folder, zip and shards become one another without loss, complete or not at all."""

import json

import pytest
import torch

from cips3d.data import CorruptImageError, check, convert, open_dataset
from cips3d.data.writers import writing


@pytest.fixture
def photographs(tmp_path, make):
    folder = tmp_path / "photographs"
    (folder / "deep").mkdir(parents=True)
    for index, name in enumerate(["a.png", "b.png", "deep/c.png"]):
        (folder / name).write_bytes(make.png(index, (12 + 2 * index, 12)))
    (folder / "dataset.json").write_text(json.dumps({"labels": [["b.png", 3], ["deep/c.png", [0.5, 1]]]}))
    return folder


def content(source):
    dataset = open_dataset(source, 1)
    return {name: (dataset.decoded(index, None), dataset.label(index)) for index, name in enumerate(dataset.names)}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, (image, label) in ours.items():
        assert torch.equal(image, theirs[name][0]) and label == theirs[name][1], name


KINDS = {"folder": "out", "zip": "out.zip", "shards": "out-%04d.tar", "one shard": "one.tar"}
SOURCES = {"folder": "out", "zip": "out.zip", "shards": "out-{0000..0001}.tar", "one shard": "one.tar"}


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_nothing_is_lost(photographs, tmp_path, kind):
    wanted = content(photographs)
    assert wanted["deep/c.png"][0].shape == (3, 12, 12) and wanted["deep/c.png"][1] == [0.5, 1]  # a centred square
    there, back = tmp_path / "x" / KINDS[kind], tmp_path / "back.zip"
    assert convert(photographs, there, shard_size=2, workers=1, progress=False) == (3, [])
    assert_same(content(tmp_path / "x" / SOURCES[kind]), wanted)
    convert(tmp_path / "x" / SOURCES[kind], back, progress=False)
    assert_same(content(back), wanted)
    if kind == "shards":
        assert sorted(file.name for file in (tmp_path / "x").iterdir()) == ["out-0000.tar", "out-0001.tar"]


def test_conversions_are_reproducible_and_resize(photographs, tmp_path):
    for name in ("a.zip", "b.zip", "a.tar", "b.tar"):
        convert(photographs, tmp_path / name, 8, workers=2 if name[0] == "a" else 0, progress=False)
    for end in ("zip", "tar"):
        assert (tmp_path / f"a.{end}").read_bytes() == (tmp_path / f"b.{end}").read_bytes()
    ours, theirs = open_dataset(tmp_path / "a.zip", 8), open_dataset(photographs, 8)
    assert all(torch.equal(ours[index], theirs[index]) for index in range(3))


def test_names_that_would_collide_become_numbers(photographs, tmp_path):
    (photographs / "A.jpg").write_bytes((photographs / "b.png").read_bytes())
    convert(photographs, tmp_path / "out.zip", progress=False)
    assert list(content(tmp_path / "out.zip"))[-1] == "00000/img00000003.png"


def test_nothing_is_overwritten(photographs, tmp_path):
    (tmp_path / "out.zip").write_text("precious")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("")
    (tmp_path / "s-0007.tar").write_text("precious")
    for name, there in {"out.zip": "out.zip", "full": "precious", "s-%04d.tar": "s-0007.tar"}.items():
        with pytest.raises(ValueError, match=f"{there} is there already and is not overwritten"):
            convert(photographs, tmp_path / name, progress=False)
    assert (tmp_path / "out.zip").read_text() == "precious"
    (tmp_path / "empty").mkdir()
    assert convert(photographs, tmp_path / "empty", progress=False)[0] == 3


def test_corrupt_pictures_stop_or_are_left_out_by_name(photographs, tmp_path, capsys):
    (photographs / "b.png").write_text("no picture")
    before = sorted(tmp_path.iterdir())
    for name in KINDS.values():
        with pytest.raises(CorruptImageError, match=r"b.png: not a readable PNG.* --on-corrupt skip"):
            convert(photographs, tmp_path / name, progress=False)
    assert sorted(tmp_path.iterdir()) == before  # nothing half-written stays
    count, problems = convert(photographs, tmp_path / "out.zip", on_corrupt="skip", progress=False)
    assert count == 2 and len(problems) == 1 and "b.png: not a readable PNG" in problems[0]
    assert capsys.readouterr().err.count("corrupt, left out: ") == 1
    assert {name: label for name, (_, label) in content(tmp_path / "out.zip").items()} == {
        "a.png": None,
        "deep/c.png": [0.5, 1],
    }
    for name in ("a.png", "deep/c.png"):
        (photographs / name).write_text("no picture either")
    with pytest.raises(ValueError, match="all 3 pictures are corrupt"):
        convert(photographs, tmp_path / "none.zip", on_corrupt="skip", progress=False)
    assert not (tmp_path / "none.zip").exists()


def test_a_full_disk_leaves_nothing(photographs, tmp_path, monkeypatch):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match="No space left"), writing(tmp_path / "out-%02d.tar", 1) as writer:
        writer.add("a.png", b"a")
        writer.add("b.png", b"b")
        raise OSError(28, "No space left on device")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "name, message",
    [
        ("out.tar.gz", "cannot write .gz; wanted a .zip, .tar, shards-%04d.tar or a folder"),
        ("out-%s.tar", "wanted one number like %04d"),
        ("out-%d-%d.tar", "wanted one number like %04d"),
    ],
)
def test_impossible_targets_are_refused(photographs, tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        convert(photographs, tmp_path / name, progress=False)
    with pytest.raises(ValueError, match="the shard size must be at least 1, got 0"):
        convert(photographs, tmp_path / "out.tar", shard_size=0, progress=False)
    with pytest.raises(ValueError, match="resolution must be at least 1, got 0"):
        convert(photographs, tmp_path / "out.tar", 0, progress=False)
    with pytest.raises(ValueError, match="is rendered, not stored"):
        convert("synthetic-heads", tmp_path / "out.tar", 8, progress=False)


@pytest.mark.parametrize("text", ["[", '{"labels": 3}', '{"labels": [["a.png", "x"]]}', '{"labels": [1]}', "[]"])
def test_damaged_labels_are_named(photographs, tmp_path, text):
    (photographs / "dataset.json").write_text(text)
    with pytest.raises(ValueError, match=r"dataset.json: "):
        convert(photographs, tmp_path / "out.zip", progress=False)


@pytest.mark.parametrize("workers", [0, 2])
def test_check_names_all_that_is_corrupt(photographs, workers):
    dataset = open_dataset(photographs, 8)
    assert check(dataset, workers, progress=False) == []
    (photographs / "a.png").write_text("no picture")
    (photographs / "deep" / "c.png").write_bytes((photographs / "b.png").read_bytes()[:100])
    problems = check(dataset, workers, progress=False)
    assert len(problems) == 2 and "a.png" in problems[0] and "c.png" in problems[1]
