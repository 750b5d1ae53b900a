"""Shards: exact and in order from a disk or a server, and nothing dishonest or damaged gets in unnamed."""

import gzip
import pickle
import tarfile
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from cips3d.data import CorruptImageError, TrainingBatches, WebShards, open_dataset
from cips3d.data.tar_shards import expand


def pixels(data):
    return torch.from_numpy(np.array(Image.open(BytesIO(data)))).permute(2, 0, 1)


def assert_is_the_set(dataset, make):
    assert isinstance(dataset, WebShards) and len(dataset) == 5
    for index in range(5):
        assert torch.equal(dataset[index], pixels(make.png(index)))


@pytest.mark.parametrize("spec", ["", "/s-{000..001}.tar"])
def test_shards_are_exact_and_in_order(shards, make, spec):
    dataset = open_dataset(f"{shards}{spec}", 12)
    assert_is_the_set(dataset, make)
    assert_is_the_set(pickle.loads(pickle.dumps(dataset)), make)
    assert dataset.names == ["0.png", "1.png", "2.png", "deep/3.png", "deep/4.png"]
    assert [dataset.label(index) for index in range(5)] == [None, 7, None, None, None]
    assert len(open_dataset(shards / "s-001.tar", 12, xflip=True)) == 4


def test_ranges_in_braces():
    assert expand("a-{8..10}.tar") == ["a-8.tar", "a-9.tar", "a-10.tar"]
    assert expand("a-{008..010}.tar") == ["a-008.tar", "a-009.tar", "a-010.tar"]
    assert expand("http://h/{0..1}/a-{00..01}.tar") == [f"http://h/{i}/a-0{j}.tar" for i in (0, 1) for j in (0, 1)]
    for wrong in ("a-{3..1}.tar", "a-{0..100000}.tar", "a-{0..999}-{0..999}.tar"):
        with pytest.raises(ValueError, match="100000"):
            expand(wrong)


def test_missing_and_mixed_sources_are_named(shards, tmp_path, make):
    with pytest.raises(ValueError, match="s-002.tar does not exist"):
        open_dataset(f"{shards}/s-{{000..002}}.tar", 8)
    (shards / "loose.png").write_bytes(make.png(0))
    with pytest.raises(ValueError, match=r"holds shards and images \(loose.png"):
        open_dataset(shards, 8)
    with pytest.raises(ValueError, match="empty.tar: no images found"):
        open_dataset(make.tar_of(tmp_path / "empty.tar", {"readme.txt": b"hello"}), 8)


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "x/../../a.png", "C:\\a.png"])
def test_entries_outside_the_tar_are_refused(tmp_path, make, name):
    with pytest.raises(ValueError, match=r"x.tar: refused, entry .*a\.png' points outside"):
        open_dataset(make.tar_of(tmp_path / "x.tar", {name: make.png(0)}), 8)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_special_files_are_refused(tmp_path, make, kind):
    entry = tarfile.TarInfo("a.png")
    entry.type, entry.linkname = kind, "/etc/passwd"
    path = make.tar_of(tmp_path / "x.tar", {"b.png": make.png(0), "a.png": entry})
    with pytest.raises(ValueError, match="x.tar: refused, entry 'a.png' is a link or a special file"):
        open_dataset(path, 8)


def test_too_large_entries_and_headers_are_refused(tmp_path, make, monkeypatch):
    path = make.tar_of(tmp_path / "x.tar", {"a.png": bytes(2**20)})
    named = make.tar_of(tmp_path / "long.tar", {"a" * 2**20 + ".png": make.png(0)})
    monkeypatch.setattr("cips3d.data.photographs.MAX_FILE_BYTES", 2**19)
    monkeypatch.setattr("cips3d.data.tar_shards.MAX_FILE_BYTES", 2**19)
    with pytest.raises(ValueError, match="x.tar: refused, entry 'a.png' unpacks to 1048576 bytes"):
        open_dataset(path, 8)
    with pytest.raises(ValueError, match="long.tar: refused, a header of"):
        open_dataset(named, 8)


def test_damaged_tars_are_named_and_nothing_is_lost_in_silence(tmp_path, make):
    whole = make.tar_of(tmp_path / "x.tar", {"a.png": make.png(0), "b.png": make.png(1)}).read_bytes()
    second = 512 + -(-len(make.png(0)) // 512) * 512  # where the header of b.png lies
    after_both = 2 * second
    for damage, message in {
        b"hello": "not a readable tar",
        b"": "not a readable tar",
        gzip.compress(whole): "not a readable tar .* unpack a compressed one",
        whole[: second + 200]: "not a readable tar|damaged or cut short",
        whole[: second + 600]: "not a readable tar .unexpected end of data",
        whole[:after_both]: f"cut short at byte {after_both}, after 2 entries",
        whole[:second] + b"x" * 512 + whole[second + 512 :]: f"damaged or cut short at byte {second}, after 1 entries",
    }.items():
        (tmp_path / "x.tar").write_bytes(damage)
        with pytest.raises(ValueError, match=f"x.tar: .*({message})"):
            open_dataset(tmp_path / "x.tar", 8)


def test_damaged_pictures_in_a_shard_are_named(tmp_path, make, capsys):
    data = make.png(0, (64, 64))
    path = make.tar_of(tmp_path / "x.tar", {"cut.png": data[: len(data) // 2], "good.png": make.png(1)})
    with pytest.raises(CorruptImageError, match="x.tar: cut.png: the image is damaged or cut short"):
        open_dataset(path, 8)[0]
    dataset = open_dataset(path, 12, on_corrupt="skip")
    assert torch.equal(dataset[0], pixels(make.png(1)))
    assert "x.tar: cut.png: the image is damaged" in capsys.readouterr().err
    path.write_bytes(path.read_bytes()[:700])  # after it was opened
    with pytest.raises(CorruptImageError, match="x.tar: cut.png: the shard ends within the image"):
        dataset.decoded(0, 8)


def test_labels_that_are_none_are_left_alone(tmp_path, make):
    entries = {f"{i}.png": make.png(i) for i in range(3)}
    labels = {"0.json": b'{"url": "x"}', "1.json": b"[1]", "2.json": b"{"}
    dataset = open_dataset(make.tar_of(tmp_path / "x.tar", entries | labels), 8)
    assert dataset.label(0) is None and dataset.label(1) is None
    with pytest.raises(ValueError, match=r"x.tar: 2.png: its .json is damaged"):
        dataset.label(2)


@pytest.mark.parametrize("ranges", [True, False])
def test_streamed_shards_equal_local_ones(shards, make, serve, ranges, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    server = serve(shards, ranges)
    dataset = open_dataset(f"{server.url}/s-{{000..001}}.tar", 12)
    assert_is_the_set(dataset, make)
    assert dataset.label(1) == 7
    assert (tmp_path / "cache").exists() != ranges  # a server without ranges is copied from, once
    batches = [TrainingBatches(each, 4, seed=0, workers=n) for each, n in ((dataset, 2), (open_dataset(shards, 12), 0))]
    for _ in range(4):
        assert torch.equal(*map(next, batches))
    batches[0].close()
    if not ranges:
        copies = sorted((tmp_path / "cache").rglob("*.tar"))
        stamps = [copy.stat().st_mtime_ns for copy in copies]
        open_dataset(f"{server.url}/s-{{000..001}}.tar", 12)
        assert len(copies) == 2 and stamps == [copy.stat().st_mtime_ns for copy in copies]


def test_a_server_is_asked_again_and_its_failure_named(shards, make, serve):
    server = serve(shards)
    server.failures, server.cuts = 1, 1
    dataset = open_dataset(f"{server.url}/s-001.tar", 12)
    server.failures = 2
    assert torch.equal(dataset[0], pixels(make.png(3)))
    server.failures = 3
    with pytest.raises(OSError, match=r"s-001.tar: cannot be read \(the server answered 503 .*; tried 3 times"):
        dataset[0]
    with pytest.raises(OSError, match="s-009.tar: the server answered 404"):
        open_dataset(f"{server.url}/s-009.tar", 12)
    with pytest.raises(OSError, match="cannot be read"):
        open_dataset("http://127.0.0.1:9/s.tar", 12)


def test_a_network_that_fails_is_no_corrupt_image(shards, serve):
    server = serve(shards)
    dataset = open_dataset(f"{server.url}/s-000.tar", 12, on_corrupt="skip")
    server.failures = 3
    with pytest.raises(OSError, match="503"):
        dataset[0]
    assert not dataset.corrupt


def test_a_shard_that_changes_while_it_is_used_is_an_error(shards, make, serve):
    dataset = open_dataset(f"{serve(shards).url}/s-001.tar", 12)
    make.tar_of(shards / "s-001.tar", {f"{i}.png": make.png(i, (40, 40)) for i in range(9)})
    with pytest.raises(OSError, match=r"s-001.tar: had \d+ bytes and now has \d+"):
        dataset[0]
