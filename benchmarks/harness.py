"""One way to measure: contenders on the same inputs, interleaved in one process, one jsonl row each.

On a CPU the number to compare is process CPU time at one thread (other programs on the machine disturb it least), the
smallest of the rounds; on a GPU it is the time between two CUDA events, the median of the rounds. Every row carries
what is needed to judge it: error of the output and of the gradients against float64, peak memory, memory held for the
backward pass, whether a second run gives the same bits, versions, machine, load, commit.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from memory import memory_mb
from source_version import ROOT, commit
from torch import Tensor

import cips3d_ext
from cips3d_ext.testing import relative_error

RESULTS = ROOT / "benchmarks" / "results"
HEAD_START = 4_000_000  # GPU cycles, about 2 ms, in which the CPU queues the work: launching it is not what is timed
SLOWEST_S = 15.0  # a contender that takes longer is not timed, nor its backward run: its row says so
# Of a contender in each round. The first run after the others' may pay for memory that a virtual machine's host took
# back while it was free (free page reporting), which a training loop does not.
RUNS_IN_A_ROW = 2
DIRECTIONS = ("forward", "forward+backward")
# What holds PyTorch's kernels, oneDNN's and MKL's to AVX2; read when they are loaded.
ONLY_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"}
Row = dict[str, Any]


class TooSlow(Exception):
    """A contender takes longer than its `slowest_s`; the message says how long."""


@dataclass
class Contender:
    """run() computes the op's output, or its outputs, from `inputs`, which have requires_grad set."""

    name: str
    run: Callable[[], Tensor | Sequence[Tensor]]
    inputs: Sequence[Tensor]
    directions: Sequence[str] = DIRECTIONS
    skipped: str = ""  # why it is not run
    slowest_s: float = SLOWEST_S


@dataclass
class Prepared:
    """A contender in one direction, ready to be timed, with its row and its times in ms."""

    contender: Contender
    direction: str
    device: str
    cotangents: Sequence[Tensor]
    row: Row
    cpu_ms: list[float] = field(default_factory=list)
    wall_ms: list[float] = field(default_factory=list)

    def forward(self) -> list[Tensor]:
        result = self.contender.run()
        return [result] if isinstance(result, Tensor) else list(result)

    def step(self) -> list[Tensor]:
        """The outputs and, with the backward pass, the gradients; direction "step" does both itself."""
        if self.direction != "forward+backward":
            with torch.set_grad_enabled(self.direction == "step"):
                return self.forward()
        outputs = self.forward()
        return [*outputs, *torch.autograd.grad(outputs, self.contender.inputs, self.cotangents)]

    def time_once(self) -> None:
        if self.device == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda._sleep(HEAD_START)
            start.record()
            self.step()
            end.record()
            end.synchronize()
            self.cpu_ms.append(start.elapsed_time(end))
            self.wall_ms.append(self.cpu_ms[-1])
            return
        cpu, wall = time.process_time(), time.perf_counter()
        self.step()
        self.cpu_ms.append(1e3 * (time.process_time() - cpu))
        self.wall_ms.append(1e3 * (time.perf_counter() - wall))

    def examine(self, expected: Sequence[Tensor]) -> None:
        """Everything of the row but the times; the first run, which compiles, is here."""
        first = self.step()  # compiles what is to be compiled
        start = time.perf_counter()
        again = self.step()
        if (seconds := time.perf_counter() - start) > self.contender.slowest_s:
            raise TooSlow(f"one {self.direction} takes {seconds:.0f} s")
        errors = [relative_error(seen, wanted) for seen, wanted in zip(first, expected, strict=False)]
        count = len(self.cotangents)
        self.row["error"] = max(errors[:count])
        if errors[count:]:
            self.row["gradient_error"] = max(errors[count:])
        self.row["repeatable"] = all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        del first, again
        self.row["peak_mb"] = round(memory_mb(self.step, self.device)[0], 1)
        if self.direction == "forward+backward":
            self.row["held_mb"] = round(memory_mb(self.forward, self.device)[1], 1)

    def finish(self) -> None:
        self.row["cpu_ms"] = round(statistics.median(self.cpu_ms), 4)
        self.row["cpu_ms_min"] = round(min(self.cpu_ms), 4)
        self.row["wall_ms"] = round(statistics.median(self.wall_ms), 4)
        self.row["rounds"] = len(self.cpu_ms)


def why_absent(module: str) -> str:
    """Why a peer is not run: empty if its module is there."""
    return "" if importlib.util.find_spec(module) else f"{module} is not installed"


def compiled(contender: Contender) -> Contender:
    """The same under torch.compile; its first run, in the warm-up, compiles."""
    torch._dynamo.reset()
    run = torch.compile(contender.run, dynamic=False)
    return dataclasses.replace(contender, name=f"compile({contender.name})", run=run)


def in_float64(
    run: Callable[..., Tensor | Sequence[Tensor]], inputs: Sequence[Tensor], directions: Sequence[str] = DIRECTIONS
) -> Contender:
    """What the others are compared with: run(*inputs) and, unless `directions` leaves them out, its gradients."""
    wide = [tensor.detach().double().requires_grad_(tensor.requires_grad) for tensor in inputs]
    return Contender("float64", lambda: run(*wide), [tensor for tensor in wide if tensor.requires_grad], directions)


def exact_values(expected: Tensor | Contender, backward: bool) -> tuple[list[Tensor], list[Tensor]]:
    """[outputs..., gradients...] in float64 (the output alone if `expected` is one), and the cotangents used."""
    outputs = [expected] if isinstance(expected, Tensor) else Prepared(expected, "forward", "", [], {}).step()
    generator = torch.Generator().manual_seed(0)
    cotangents = [torch.randn(output.shape, generator=generator).to(output) for output in outputs]
    if isinstance(expected, Contender) and backward and "forward+backward" in expected.directions:
        return Prepared(expected, "forward+backward", "", cotangents, {}).step(), cotangents
    return outputs, cotangents


def measure(
    op: str, case: Row, contenders: Iterable[Contender], expected: Tensor | Contender, rounds: int
) -> list[Row]:
    """Rows of all contenders.

    `expected` is the output in float64, or a contender that computes it (then gradients are compared too); `case`
    describes the sizes and is copied into each row. A contender that fails or is too slow leaves rows that say why.
    """
    contenders = list(contenders)
    values, cotangents = exact_values(expected, any("backward" in d for c in contenders for d in c.directions))
    rows, prepared, device = [], [], values[0].device.type
    for contender in contenders:
        for direction in contender.directions:
            row = {"op": op, **case, "contender": contender.name, "direction": direction}
            row |= environment(device)
            rows.append(row)
            if contender.skipped:
                row["skipped"] = contender.skipped
                continue
            try:
                dtype = contender.inputs[0].dtype if contender.inputs else cotangents[0].dtype
                one = Prepared(contender, direction, device, [c.to(dtype) for c in cotangents], row)
                one.examine(values)
                prepared.append(one)
            except TooSlow as slow:
                row["skipped"] = contender.skipped = str(slow)
                print(f"{op} {contender.name} {slow}", flush=True)
            except Exception as error:
                row["skipped"] = f"failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
                print(f"{op} {contender.name} {row['skipped']}", flush=True)
    for _ in range(rounds):
        for one in prepared:
            for _ in range(RUNS_IN_A_ROW):
                one.time_once()
    for one in prepared:
        one.finish()
        print(line_of(one.row, case), flush=True)
    return rows


def record(
    args: argparse.Namespace, op: str, case: Row, contenders: Iterable[Contender], expected: Tensor | Contender
) -> list[Row]:
    """Measures one case and appends its rows to args.out; with --resume nothing (and []) if they are there already."""
    if args.resume and args.out.exists():
        there = [json.loads(line) for line in args.out.read_text().splitlines()]
        if any({"op": op, **case}.items() <= row.items() for row in there):
            return []
    rows = measure(op, case, contenders, expected, args.rounds)
    save(rows, args.out)
    return rows


def line_of(row: Row, case: Row) -> str:
    sizes = " ".join(f"{key}={value}" for key, value in case.items())
    error = f"  error {row['error']:.1e}" if "error" in row else ""
    text = f"{row['cpu_ms']:10.3f} ms{error}  peak {row['peak_mb']:8.1f} MB"
    return f"{row['op']:<14} {sizes:<44} {row['direction']:<17} {row['contender']:<24} {text}"


def environment(device: str) -> Row:
    status = cips3d_ext.status()
    limit = {"limit": "AVX2"} if only_avx2() and device == "cpu" else {}
    return limit | {
        "device": device,
        "torch": status.torch,
        "cpu_level": status.cpu_level,
        "threads": torch.get_num_threads(),
        "machine": torch.cuda.get_device_name() if device == "cuda" else _cpu_name(),
        "load": round(os.getloadavg()[0], 1),
        "commit": commit(),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} x{len(names) or 1}"


def parser(op: str) -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        description=f"Measures {op}: interleaved contenders, error against float64; rows go to a jsonl file.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    result.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    result.add_argument("--threads", type=int, default=1, help="CPU threads; 1 gives the steadiest ratios")
    result.add_argument("--avx2", action="store_true", help="hold our kernels, PyTorch's and its libraries' to AVX2")
    result.add_argument("--rounds", type=int, default=9, help="timed rounds of each contender")
    result.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs")
    result.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    result.add_argument("--resume", action="store_true", help="leave out cases whose rows are in --out already")
    result.add_argument("--out", type=Path, default=RESULTS / f"{op}.jsonl", help="rows are appended here")
    return result


def only_avx2() -> bool:
    return all(os.environ.get(name) == value for name, value in ONLY_AVX2.items())


def start(args: argparse.Namespace) -> None:
    if args.avx2 and not only_avx2():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | ONLY_AVX2)
    if args.avx2:
        torch.ops.cips3d_ext.set_cpu_level("avx2")
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)


def save(rows: Sequence[Row], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
