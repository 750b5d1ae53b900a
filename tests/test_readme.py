"""The README's Python examples and `cips3d` commands run as they are written."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_example(code):
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr


def test_commands(tmp_path, monkeypatch):
    """All `cips3d` lines of the sh blocks, in order, in one empty folder."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'python'}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    commands = [line for block in blocks("sh") for line in block.splitlines() if line]
    assert len(commands) >= 6 and all(line.startswith("cips3d ") for line in commands)
    for line in commands:
        words = [sys.executable, "-m", *shlex.split(line)]
        result = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
        assert result.returncode == 0, f"{line}\n{result.stdout}\n{result.stderr}"
    for name in (
        "grid.png",
        "turn.gif",
        "panels.mp4",
        "head.ply",
        "faces.zip",
        "stylised.png",
        "swapped.safetensors",
        "mixed.png",
        "walk.gif",
    ):
        assert (tmp_path / name).stat().st_size > 0


@pytest.mark.parametrize("target", re.findall(r"\]\((?!http)([^)]+)\)", README))
def test_links_lead_somewhere(target):
    assert (ROOT / target.partition("#")[0]).exists()


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:`|^ +)make ([a-z-]+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.M), target
