"""One way to measure: contenders on the same inputs, interleaved in one process, medians of many rounds, one jsonl
row each.

On a CPU the number to compare is process CPU time at one thread (other programs on the machine disturb it least);
wall time is
recorded beside it. On a GPU both are the time between two CUDA events. Every row carries what is needed to judge it:
error
against float64, peak memory, versions, machine, commit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import cips3d_ext
from cips3d_ext.testing import relative_error

RESULTS = Path(__file__).resolve().parent / "results"
DIRECTIONS = ("forward", "forward+backward")


@dataclass
class Contender:
    """run() computes the op's main output from `inputs`, which have requires_grad set."""

    name: str
    run: Callable[[], Tensor]
    inputs: Sequence[Tensor]
    directions: Sequence[str] = DIRECTIONS
    skipped: str = ""  # why it is not run


@dataclass
class Timing:
    cpu_ms: list[float] = field(default_factory=list)
    wall_ms: list[float] = field(default_factory=list)


def step(contender: Contender, direction: str, cotangent: Tensor) -> Tensor:
    if direction == "forward":
        with torch.no_grad():
            return contender.run()
    output = contender.run()
    torch.autograd.grad(output, contender.inputs, cotangent)
    return output


def time_once(contender: Contender, direction: str, cotangent: Tensor, timing: Timing) -> None:
    if cotangent.is_cuda:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step(contender, direction, cotangent)
        end.record()
        end.synchronize()
        elapsed = start.elapsed_time(end)
        timing.cpu_ms.append(elapsed)
        timing.wall_ms.append(elapsed)
        return
    cpu, wall = time.process_time(), time.perf_counter()
    step(contender, direction, cotangent)
    timing.cpu_ms.append(1e3 * (time.process_time() - cpu))
    timing.wall_ms.append(1e3 * (time.perf_counter() - wall))


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """The profiler's native code reports its starts and stops on the error stream."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def peak_memory_mb(contender: Contender, direction: str, cotangent: Tensor) -> float:
    """Most memory that torch had allocated at once during one step, beyond the inputs (kernels' own scratch on the
    CPU is
    not torch's and is not counted)."""
    if cotangent.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(contender, direction, cotangent)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with warnings.catch_warnings(), quiet_stderr():
        warnings.simplefilter("ignore")  # the profiler warns about its own clock
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            step(contender, direction, cotangent)
    assert profile.profiler is not None and profile.profiler.kineto_results is not None
    held = peak = 0
    changes = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(changes, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 2**20


def compiled(contender: Contender) -> Contender:
    """The same under torch.compile; its first run, in the warm-up, compiles."""
    torch._dynamo.reset()
    run = torch.compile(contender.run, dynamic=False)
    return Contender(f"compile({contender.name})", run, contender.inputs, contender.directions, contender.skipped)


def measure(
    op: str, case: dict[str, Any], contenders: Iterable[Contender], expected: Tensor, rounds: int
) -> list[dict[str, Any]]:
    """Rows of all contenders; `expected` is the output in float64, `case` describes the sizes and is copied into each
    row."""
    rows, prepared = [], []
    generator = torch.Generator().manual_seed(0)
    for contender in contenders:
        for direction in contender.directions:
            row = {"op": op, **case, "contender": contender.name, "direction": direction, **environment()}
            rows.append(row)
            if contender.skipped:
                row["skipped"] = contender.skipped
                continue
            with torch.no_grad():
                output = contender.run()
            cotangent = torch.randn(output.shape, generator=generator).to(output)
            row["error"] = relative_error(output, expected)
            row["peak_mb"] = round(peak_memory_mb(contender, direction, cotangent), 1)
            prepared.append((contender, direction, cotangent, Timing(), row))
    for _ in range(rounds):
        for contender, direction, cotangent, timing, _ in prepared:
            time_once(contender, direction, cotangent, timing)
    for _, _, _, timing, row in prepared:
        row["cpu_ms"] = round(statistics.median(timing.cpu_ms), 4)
        row["cpu_ms_min"] = round(min(timing.cpu_ms), 4)
        row["wall_ms"] = round(statistics.median(timing.wall_ms), 4)
        row["rounds"] = rounds
        time_text = f"{row['cpu_ms']:10.3f} ms  error {row['error']:.1e}  peak {row['peak_mb']:8.1f} MB"
        print(
            f"{row['op']:<14} {_sizes(case):<44} {row['direction']:<17} {row['contender']:<24} {time_text}", flush=True
        )
    return rows


def _sizes(case: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in case.items())


def environment() -> dict[str, Any]:
    status = cips3d_ext.status()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=RESULTS.parent)
    return {
        "torch": status.torch,
        "cpu_level": status.cpu_level,
        "threads": torch.get_num_threads(),
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else _cpu_name(),
        "commit": commit.stdout.strip(),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} x{len(names) or 1}"


def parser(op: str) -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        description=f"Measures {op}: interleaved contenders, medians, error against float64; rows go to a jsonl file.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    result.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    result.add_argument("--threads", type=int, default=1, help="CPU threads; 1 gives the steadiest ratios")
    result.add_argument("--rounds", type=int, default=9, help="timed rounds of each contender")
    result.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs")
    result.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    result.add_argument("--out", type=Path, default=RESULTS / f"{op}.jsonl", help="rows are appended here")
    return result


def start(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)


def save(rows: Sequence[dict[str, Any]], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
