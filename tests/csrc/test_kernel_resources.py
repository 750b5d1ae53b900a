"""Registers and spills of every CUDA kernel, as ptxas reports them, against kernel_registers.json.

python tests/csrc/test_kernel_resources.py            prints the table
"""

import json
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest

CSRC = Path(__file__).resolve().parents[2] / "csrc"
SOURCES = sorted(CSRC.glob("*/*_cuda.cu"))
ARCHITECTURES = ("80", "90")
# Most registers a thread may have, by kernel and type it computes in. Blocks have at most 256 threads: up to 128
# registers leave room for two of them on an SM, so that one computes while the other waits.
LIMITS: dict[str, int] = json.loads(Path(__file__).with_name("kernel_registers.json").read_text())
NVCC = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")


class Resources(NamedTuple):
    instance: str  # demangled
    architecture: str
    registers: int
    spilled: int  # bytes stored and loaded


def kernel_resources(source: Path) -> list[Resources]:
    """Compiles one file and reads ptxas's report. No file is written."""
    assert NVCC is not None
    codes = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in ARCHITECTURES]
    command = [NVCC, "-std=c++17", "-O3", f"-I{CSRC}", *codes, "--resource-usage", "-c", str(source), "-o", "/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = subprocess.run(["c++filt"], input=done.stdout + done.stderr, capture_output=True, text=True).stdout
    pattern = re.compile(
        r"Compiling entry function '(?P<name>.+?)' for 'sm_(?P<arch>\d+)'.*?"
        r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?Used (?P<registers>\d+) registers",
        re.DOTALL,
    )
    return [
        Resources(m["name"], m["arch"], int(m["registers"]), int(m["stores"]) + int(m["loads"]))
        for m in pattern.finditer(report)
    ]


def kernel_of(instance: str) -> str:
    """The name in kernel_registers.json: `gemm_kernel double` for cips3d::gemm_kernel<double, ...>."""
    found = re.search(r"cips3d::(\w+)(<\(?(\w+)?)?", instance)
    assert found, instance
    computes = "double" if "double" in instance.split("(", 1)[0] else "float"
    return f"{found[1]} {computes}"


@pytest.mark.long
@pytest.mark.skipif(NVCC is None, reason="no nvcc on this machine")
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_kernels_fit_their_registers(source):
    found = kernel_resources(source)
    assert {r.architecture for r in found} == set(ARCHITECTURES)
    for r in found:
        assert r.spilled == 0, f"{r.instance} on sm_{r.architecture} spills {r.spilled} bytes"
        assert kernel_of(r.instance) in LIMITS, f"add {kernel_of(r.instance)!r} to kernel_registers.json"
        assert r.registers <= LIMITS[kernel_of(r.instance)], f"{r.instance} on sm_{r.architecture}: {r.registers}"


def print_table() -> None:
    print("| file | kernel | instances | " + " | ".join(f"sm_{a} registers, spill bytes" for a in ARCHITECTURES) + " |")
    print("|---|---|---|" + "---|" * len(ARCHITECTURES))
    for source in SOURCES:
        by_kernel: dict[str, list[Resources]] = defaultdict(list)
        for r in kernel_resources(source):
            by_kernel[kernel_of(r.instance)].append(r)
        for kernel, all_found in sorted(by_kernel.items()):
            cells = []
            for a in ARCHITECTURES:
                found = [r for r in all_found if r.architecture == a]
                registers = [r.registers for r in found]
                cells.append(f"{min(registers)}-{max(registers)}, {max(r.spilled for r in found)}")
            count = len(all_found) // len(ARCHITECTURES)
            print(f"| {source.stem} | {kernel} | {count} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    print_table()
