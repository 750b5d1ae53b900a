"""status(), impl=..., and what happens when a kernel or a whole library is taken away."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import cips3d_ext
from cips3d_ext.ops import _registry

ROOT = Path(__file__).resolve().parents[1]
OPS = (
    "film_sine",
    "merge_samples",
    "modfc",
    "render_rays",
    "sample_pdf",
    "sample_planes",
    "sample_volume",
    "siren_field",
    "volume_render",
)


def call(impl: str) -> torch.Tensor:
    return cips3d_ext.modfc(torch.ones(1, 2, 3), torch.ones(4, 3), torch.ones(1, 3), impl=impl)


def test_status_names_every_op_and_the_loaded_library():
    status = cips3d_ext.status()
    assert tuple(status.ops) == OPS
    assert "cpu" in status.loaded and status.cpu_level in ("avx512bf16", "avx512", "avx2", "portable")
    for op in OPS:
        assert status.ops[op]["cpu"].implementation == "native" and f"csrc/{op}" in status.ops[op]["cpu"].kernel
        assert f"{op} " in str(status)
    if status.build["cuda"]:  # registered, although this machine may have no GPU
        found = {op: status.ops[op]["cuda"].implementation for op in OPS}
        assert found == dict.fromkeys(OPS, "native")


def test_a_kernel_taken_away_is_noticed(monkeypatch):
    """The fused path is the native kernel: without one, "fused" refuses with the reason and status() says so."""
    monkeypatch.setitem(_registry.NATIVE_DEVICES, "modfc", frozenset())
    with pytest.raises(RuntimeError, match=r"modfc: impl='fused' is not possible: .*no kernel for modfc.*impl='auto'"):
        call("fused")
    assert cips3d_ext.status().ops["modfc"]["cpu"].implementation == "reference"
    assert call("auto").shape == (1, 2, 4)


@pytest.mark.parametrize("precision", ["highest", "high"])
def test_status_says_how_cuda_kernels_multiply_float32(monkeypatch, precision):
    monkeypatch.setitem(_registry.NATIVE_DEVICES, "modfc", frozenset({"cuda"}))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        kernel = cips3d_ext.status().ops["modfc"]["cuda"].kernel
    finally:
        torch.set_float32_matmul_precision(before)
    assert kernel == f"csrc/modfc (CUDA, float32 products at '{precision}')"


def test_an_op_of_parts_says_what_runs_in_its_place(monkeypatch):
    monkeypatch.setitem(_registry.NATIVE_DEVICES, "render_rays", frozenset())
    entry = cips3d_ext.status().ops["render_rays"]["cpu"]
    assert entry.implementation == "parts" and entry.kernel.startswith("csrc/siren_field, csrc/volume_render")
    assert entry.reasons[0].startswith("render_rays as a whole has no cpu kernel, its parts have: siren_field")
    monkeypatch.setitem(_registry.NATIVE_DEVICES, "siren_field", frozenset())
    assert cips3d_ext.status().ops["render_rays"]["cpu"].implementation == "reference"


def test_fused_runs_the_dispatcher_op_and_reference_does_not(monkeypatch):
    reached = []
    real = _registry.dispatcher_op
    monkeypatch.setattr(_registry, "dispatcher_op", lambda name: reached.append(name) or real(name))
    call("reference")
    assert reached == []
    call("fused")
    call("auto")
    assert reached == ["modfc", "modfc"]


def test_unknown_impl():
    with pytest.raises(ValueError, match="impl must be one of .*'fastest'"):
        call("fastest")


def test_devices_without_a_native_kernel_fall_back():
    reasons = _registry.reasons_against_native("modfc", "mps")
    assert reasons and "mps" in reasons[0]


@pytest.fixture
def bare_package(tmp_path):
    """A copy of cips3d_ext without compiled files."""
    shutil.copytree(ROOT / "cips3d_ext", tmp_path / "cips3d_ext", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return tmp_path


def run(code: str, folder: Path) -> str:
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def test_without_compiled_libraries_the_import_works_and_says_so(bare_package):
    text = run(
        "import torch, cips3d_ext; print(cips3d_ext.status());"
        "print(cips3d_ext.modfc(torch.ones(1, 2, 3), torch.ones(4, 3), torch.ones(1, 3)).shape)",
        bare_package,
    )
    assert "missing" in text and "install with `pip install .`" in text and "[1, 2, 4]" in text
    assert "native" not in text


def test_a_library_that_does_not_fit_gives_one_readable_line(bare_package):
    for library in (ROOT / "cips3d_ext").glob("_C*.so"):
        shutil.copy(library, bare_package / "cips3d_ext")
    (bare_package / "cips3d_ext" / "libcips3d_cpu.so").write_bytes(b"not a library")
    (bare_package / "cips3d_ext" / "libcips3d_cuda.so").write_bytes(b"not a library")
    text = run("import cips3d_ext; print(cips3d_ext.status().ops['modfc']['cpu'])", bare_package)
    assert "libcips3d_cpu.so does not fit torch" in text and "rebuild with" in text and "reference" in text
