"""`cips3d data`: convert, check and what mistakes are told."""

import pytest

from cips3d.cli import main


def fails(capsys, *words):
    with pytest.raises(SystemExit) as exit:
        main(["data", *words])
    assert exit.value.code == 2
    return capsys.readouterr()


def test_convert_check_and_inspect(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["data", "lfw", "faces"])
    main(["data", "convert", "faces", "s-%02d.tar", "--shard-size", "40", "--resolution", "16", "--workers", "0"])
    main(["data", "inspect", "s-{00..02}.tar", "--check", "--workers", "1"])
    text = capsys.readouterr().out
    assert "100 images in s-%02d.tar" in text and "WebShards" in text and "resolution  16" in text
    assert sorted(path.name for path in tmp_path.glob("s-*")) == ["s-00.tar", "s-01.tar", "s-02.tar"]
    assert "s-00.tar is there already and is not overwritten" in fails(capsys, "convert", "faces", "s-%02d.tar").err


def test_corrupt_images_are_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["data", "lfw", "faces"])
    for name in ("faces/00000/img00000000.png", "faces/00000/img00000042.png"):
        (tmp_path / name).write_text("no picture")
    capsys.readouterr()
    told = fails(capsys, "inspect", "faces", "--check")
    assert [line.split(":")[1] for line in told.out.splitlines()] == [
        " 00000/img00000000.png",
        " 00000/img00000042.png",
    ]
    assert told.err.splitlines()[-1] == "cips3d data: 2 images of faces are corrupt, named above"
    assert "img00000000.png: not a readable PNG" in fails(capsys, "inspect", "faces").err
    assert "img00000000.png: not a readable PNG" in fails(capsys, "convert", "faces", "faces.zip").err
    main(["data", "inspect", "faces", "--on-corrupt", "skip"])
    main(["data", "convert", "faces", "faces.zip", "--on-corrupt", "skip"])
    text = capsys.readouterr()
    assert "98 images in faces.zip\n2 corrupt ones" in text.out and text.err.count("corrupt, left out: ") == 2
