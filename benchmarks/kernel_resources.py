"""Registers, spills and shared memory of every CUDA kernel, as ptxas reported them when the CUDA library was built.

`csrc/keep_resource_usage.sh` keeps ptxas's words beside each object file; this reads them and compiles nothing again.

    TORCH_CUDA_ARCH_LIST="8.0;9.0" pip install --no-build-isolation --no-deps -e .
    python benchmarks/kernel_resources.py                # writes benchmarks/results/kernels.md
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
OBJECTS = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}" / "CMakeFiles" / "cips3d_cuda.dir"
TABLE = ROOT / "benchmarks" / "results" / "kernels.md"
TABLE_ARCHITECTURES = ("80", "90")  # A100, and H100 or H200
# Held to the limits. Not sm_100: kernels were tuned without it, and 16-bit volume_render_forward spills 28 bytes there.
CHECKED_ARCHITECTURES = ("80", "86", "89", "90")
# Most registers a thread may have, by kernel and type it computes in.
LIMITS: dict[str, int] = json.loads((ROOT / "tests" / "csrc" / "kernel_registers.json").read_text())

HEADER = """# CUDA kernels: registers, spills, shared memory

Written by `benchmarks/kernel_resources.py` from the report of ptxas; smallest and largest over the kernel's instances
(dtypes and sizes). Spills are bytes stored and loaded; shared memory is what a block declares, in bytes (what a launch
adds at run time is said in the kernel's header). `tests/csrc/test_kernel_resources.py` holds every instance to no spill
and to the limit of registers.
"""


class Resources(NamedTuple):
    """What one instance of a kernel takes on one architecture."""

    instance: str  # demangled
    architecture: str
    registers: int
    spilled: int  # bytes stored and loaded
    shared: int  # bytes a block declares

    @property
    def kernel(self) -> str:
        """The name in kernel_registers.json: `gemm_kernel double` for cips3d::gemm_kernel<double, ...>."""
        found = re.search(r"cips3d::(\w+)", self.instance)
        assert found, self.instance
        return f"{found[1]} {'double' if 'double' in self.instance.split('(', 1)[0] else 'float'}"


def reports() -> list[Path]:
    """The kept report of each CUDA source, or [] where no CUDA library has been built."""
    return sorted(OBJECTS.glob("csrc/*/*.cu.o.resources"))


def read(report: Path) -> list[Resources]:
    """What ptxas said in one kept report."""
    text = subprocess.run(["c++filt"], input=report.read_text(), capture_output=True, text=True, check=True).stdout
    pattern = re.compile(
        r"Compiling entry function '(?P<name>[^\n]+?)' for 'sm_(?P<arch>\w+)'.*?"
        r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
        r"Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
        re.DOTALL,
    )
    result = []
    for match in pattern.finditer(text):
        shared = re.search(r"(\d+) bytes smem", match["rest"])
        spilled = int(match["stores"]) + int(match["loads"])
        registers, declared = int(match["registers"]), int(shared[1]) if shared else 0
        result.append(Resources(match["name"], match["arch"], registers, spilled, declared))
    return result


def problems(found: Iterable[Resources]) -> list[str]:
    """What is wrong with these instances: spills, too many registers, kernels without a limit."""
    result = []
    for r in found:
        if r.architecture not in CHECKED_ARCHITECTURES:
            continue
        limit = LIMITS.get(r.kernel)
        if r.spilled:
            result.append(f"{r.instance} on sm_{r.architecture} spills {r.spilled} bytes")
        if limit is None:
            result.append(f"add {r.kernel!r} to kernel_registers.json")
        elif r.registers > limit:
            result.append(f"{r.instance} on sm_{r.architecture} takes {r.registers} registers, more than {limit}")
    return sorted(set(result))


def span(values: Iterable[int]) -> str:
    low, high = min(values := list(values)), max(values)
    return str(low) if low == high else f"{low}-{high}"


def table(files: Iterable[Path]) -> str:
    """Markdown: one line a source, kernel and computing type."""
    titles = [f"sm_{a} {what}" for a in TABLE_ARCHITECTURES for what in ("registers", "spills", "shared memory")]
    lines = [f"| source | kernel | instances | limit | {' | '.join(titles)} |", "|---" * (4 + len(titles)) + "|"]
    for report in files:
        by_kernel: dict[str, list[Resources]] = defaultdict(list)
        for r in read(report):
            by_kernel[r.kernel].append(r)
        for kernel, found in sorted(by_kernel.items()):
            cells = []
            for architecture in TABLE_ARCHITECTURES:
                there = [r for r in found if r.architecture == architecture]
                if not there:
                    raise SystemExit(f"{kernel} was not built for sm_{architecture}: check TORCH_CUDA_ARCH_LIST")
                cells += [span(r.registers for r in there), span(r.spilled for r in there)]
                cells.append(span(r.shared for r in there))
            count = len(there)
            source = report.name.split(".")[0]
            lines.append(f"| {source} | {kernel} | {count} | {LIMITS.get(kernel, '-')} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    files = reports()
    sources = [path for path in ROOT.glob("csrc/**/*") if path.suffix in (".cu", ".cuh", ".h")]
    newest = max(path.stat().st_mtime for path in sources if "emulator" not in path.parts)
    if not files or min(path.stat().st_mtime for path in files) < newest:
        raise SystemExit(f"kernel_resources: {OBJECTS} is missing or older than csrc; build the CUDA library first")
    TABLE.write_text(f"{HEADER}\n{table(files)}")
    wrong = problems(r for report in files for r in read(report))
    print("\n".join([str(TABLE.relative_to(ROOT)), *wrong]))
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
