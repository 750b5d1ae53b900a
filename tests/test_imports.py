"""The one direction of imports: cips3d -> cips3d_ext (public names) -> layers -> ops -> reference -> torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cips3d

ROOT = Path(__file__).resolve().parents[1]
# folder of cips3d_ext -> what its files may import of cips3d_ext ("" is the package's own top level)
ALLOWED = {
    "reference": {"reference"},
    "ops": {"ops", "reference", "_native"},
    "layers": {"layers", "ops"},
    "drop_in": {"drop_in", "layers", "ops"},
    "testing": {"testing", ""},
    "": {"", "_native", "_status", "drop_in", "layers", "ops", "reference"},
}


def imports(path: Path) -> list[str]:
    """Absolute names of all modules that a file imports."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names += [f"{module}.{alias.name}" for alias in node.names] if node.module is None else [module]
    return names


@pytest.mark.parametrize("path", sorted((ROOT / "cips3d_ext").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_cips3d_ext_needs_torch_alone_and_keeps_its_floors(path):
    folder = path.relative_to(ROOT / "cips3d_ext").parts[0] if path.parent != ROOT / "cips3d_ext" else ""
    for name in imports(path):
        top = name.split(".")[0]
        assert top in sys.stdlib_module_names or top in ("torch", "cips3d_ext"), f"{path}: {name}"
        if top == "cips3d_ext":
            part = (name.split(".") + [""])[1]
            part = part if (ROOT / "cips3d_ext" / part).is_dir() or part.startswith("_") else ""
            assert part in ALLOWED[folder], f"{path.name} of cips3d_ext/{folder} must not import {name}"


@pytest.mark.parametrize("path", sorted((ROOT / "python").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_cips3d_uses_public_names_alone(path):
    for name in imports(path):
        parts = name.split(".")
        assert parts[0] != "cips3d_ext" or name in ("cips3d_ext", "cips3d_ext.testing"), f"{path}: {name}"


def test_reference_imports_torch_alone():
    allowed = {"torch", "cips3d_ext", "__future__", "abc", "collections", "functools", "typing"}
    for path in (ROOT / "cips3d_ext" / "reference").glob("*.py"):
        tops = {name.split(".")[0] for name in imports(path)}
        assert tops <= allowed, f"{path}: {tops}"


def test_csrc_ops_do_not_include_each_other():
    ops = {path.name for path in (ROOT / "csrc").iterdir() if path.is_dir()} - {"common", "emulator"}
    for op in ops:
        for source in (ROOT / "csrc" / op).iterdir():
            for line in source.read_text().splitlines():
                if line.startswith("#include"):
                    assert not any(f'"{other}/' in line for other in ops - {op}), f"{source}: {line}"


def test_importing_cips3d_ext_loads_nothing_of_the_command():
    code = (
        "import sys, torch; before = set(sys.modules); import cips3d_ext;"
        "heavy = {'cips3d', 'PIL', 'yaml', 'matplotlib', 'imageio', 'tensorboard', 'tqdm', 'numpy'};"
        "assert not heavy & (set(sys.modules) - before), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_cips3d_imports_its_parts_on_first_use():
    code = (
        "import sys; sys.path.insert(0, 'python'); import cips3d; assert 'torch' not in sys.modules; "
        "cips3d.models.load_official; cips3d.render.Camera; cips3d.config; cips3d.data; cips3d.training"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    with pytest.raises(AttributeError, match="has no attribute 'model'"):
        cips3d.__getattr__("model")
