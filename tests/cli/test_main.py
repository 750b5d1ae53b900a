"""Every subcommand explains itself; a user's mistake is one readable line and exit code 2."""

import re

import pytest

from cips3d.cli import main
from cips3d.cli.main import COMMANDS, USER_ERROR


def fails(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as exit:
        main(list(words))
    assert exit.value.code == USER_ERROR
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["--help"])
    assert exit.value.code == 0
    text = capsys.readouterr().out
    assert all(f"    {name}" in text for name in COMMANDS) and "first steps" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as exit:
        main([command, "--help"])
    assert exit.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: cips3d {command}" in text and re.search(rf"^ *cips3d {command}", text, re.MULTILINE)  # an example


def test_unknown_command_and_missing_arguments(capsys):
    assert "invalid choice: 'trian'" in fails(capsys, "trian")
    assert "required: --preset, --run-dir" in fails(capsys, "train")
    assert "required: --out" in fails(capsys, "export")


def test_a_missing_model_is_one_line(capsys, tmp_path):
    text = fails(capsys, "generate", "--run-dir", str(tmp_path / "nothing"), "--out", str(tmp_path / "x.png"))
    assert text.startswith("cips3d generate: there is no model") and text.count("\n") == 1


def test_info_tells_what_runs(capsys):
    main(["info"])
    text = capsys.readouterr().out
    assert "modfc" in text and "torch" in text and "native" in text


def test_bench_compares_ops_and_generator(capsys, monkeypatch):
    monkeypatch.setattr("cips3d.metrics.speed.RESOLUTION", 4)
    main(["bench", "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["forward", "modfc", "film_sine", "volume_render", "generator"]
    assert all(line.endswith("x") for line in lines[1:])
