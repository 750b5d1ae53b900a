"""Installing never changes torch; the long tests build and install a wheel."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


def source_tree(folder: Path) -> Path:
    """What a clone has: the tracked files, without builds."""
    tree = folder / "source"
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, names):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    return tree


def test_installing_never_changes_torch(tmp_path):
    """With torch installed, a dry run wants nothing but this package and, at most, its small dependencies."""
    report = tmp_path / "report.json"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--no-build-isolation",
        "--quiet",
        "--report",
        report,
    ]
    subprocess.run([*command, str(source_tree(tmp_path))], check=True, env=os.environ | {"PIP_NO_INPUT": "1"})
    names = {item["metadata"]["name"].lower() for item in json.loads(report.read_text())["install"]}
    assert "cips3d-ext" in names
    assert not {name for name in names if name.startswith(("torch", "nvidia", "triton"))}, names


@pytest.mark.long
def test_wheel_installs_into_a_fresh_environment(tmp_path):
    """A wheel built with isolation off, installed beside the same torch: the ops run natively, and no torch is in the
    wheel."""
    build = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-q", "-w", str(tmp_path)]
    subprocess.run([*build, str(source_tree(tmp_path))], check=True, env=os.environ | {"CIPS3D_CUDA": "OFF"})
    (wheel,) = tmp_path.glob("*.whl")
    target = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "-q", "--target", str(target), str(wheel)], check=True
    )
    assert not (target / "torch").exists()
    code = (
        "import cips3d_ext, torch; print(cips3d_ext.__file__, torch.__version__);"
        "assert cips3d_ext.status().ops['modfc']['cpu'].implementation == 'native'; import cips3d.cli"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert str(target) in result.stdout and torch.__version__ in result.stdout
