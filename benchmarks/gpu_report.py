"""The GPU report: builds for the present GPU, tests, checks with compute-sanitizer, measures. See gpu_report.sh.

Four phases of steps. A step has a time limit and leaves a mark when it ends; a second call with the same sources does
what has no mark yet. Marks and logs live in build/gpu_report (kept between calls) and are copied to OUTDIR after each
phase. This file imports nothing but the standard library: in the first phase there is no cips3d_ext to import yet.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from source_version import ROOT, commit, digest

WORK = ROOT / "build" / "gpu_report"
MINUTES_NINE = 525.0  # seconds for everything: less than nine minutes with what follows the last step
CLOSING = 12.0  # seconds kept for the tables and the plot
PYTHON = sys.executable
UNSUPPORTED = "Device not supported"  # what compute-sanitizer says where it cannot work
# Other libraries, by module: (name, why it has no rows although it is there; nerfacc's are in volume_render's).
PEERS = {"nerfacc": ("nerfacc", ""), "tinycudann": ("tiny-cuda-nn", "its fused networks have no sine and no FiLM")}
TESTS_AT_ONCE = 8
DRY_OP = "sample_pdf"  # the op that a dry run takes through all phases


@dataclass(frozen=True)
class Step:
    """One command. `skip`: why it cannot run here; `environment`: variables added to the present ones."""

    phase: str
    name: str
    command: tuple[str, ...] = ()
    limit: float = 60.0
    skip: str = ""
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Marks:
    """What has ended: step -> state ("passed", "failed", "not run"), seconds, note. Kept in a file."""

    path: Path
    version: str
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    @classmethod
    def load(cls, path: Path, version: str) -> Marks:
        """The marks in the file, or none if they belong to other sources or another device."""
        if path.exists():
            kept = json.loads(path.read_text())
            if kept["version"] == version:
                return cls(path, version, kept["steps"])
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir(parents=True)
        return cls(path, version)

    def set(self, step: Step, state: str, seconds: float, note: str = "") -> None:
        mark = {"phase": step.phase, "state": state, "seconds": round(seconds, 1), "note": note}
        with self.lock:
            self.steps[step.name] = mark
            self.path.write_text(json.dumps({"version": self.version, "steps": self.steps}, indent=1))
        print(f"{step.phase:<10} {step.name:<28} {state} {seconds:6.1f} s {note}", flush=True)

    def ended(self, step: Step) -> bool:
        """Steps that ran out of time are done again."""
        return self.steps.get(step.name, {}).get("state") in ("passed", "failed", "not run")


def device() -> tuple[str, str]:
    """(name, compute capability such as "9.0") of the GPU, or ("no GPU", "")."""
    code = (
        "import torch; ok = torch.cuda.is_available();"
        "print(torch.cuda.get_device_name() if ok else 'no GPU');"
        "print('%d.%d' % torch.cuda.get_device_capability() if ok else '')"
    )
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"gpu_report: {PYTHON} cannot import torch: {done.stderr.strip().splitlines()[-1]}")
    name, capability = (done.stdout.strip().split("\n") + [""])[:2]
    return name, capability


def build_steps(capability: str, dry: bool) -> list[Step]:
    """In place, for this GPU's architecture alone; needs cmake, ninja, pybind11, a compiler, nvcc, and no network."""
    environment = {"CIPS3D_CUDA": "ON", "TORCH_CUDA_ARCH_LIST": capability, "MAX_JOBS": str(os.cpu_count() or 2)}
    command = (PYTHON, "setup.py", "-q", "build_ext", "--inplace")
    skip = "a dry run keeps the build it finds" if dry else ""
    return [Step("build", "build", command, 170.0, skip, environment)]


def test_steps(ops: Sequence[str], target: str) -> list[Step]:
    """The contract of each op on the device, a process each. Plugins that happen to be there stay out."""
    words = (PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/ops", "-k")
    environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "2", "TORCHINDUCTOR_COMPILE_THREADS": "2"}
    return [Step("tests", f"contract {op}", (*words, f"{target} and {op}"), 150.0, "", environment) for op in ops]


def sanitizer_steps(ops: Sequence[str], target: str, dry: bool) -> list[Step]:
    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    script = (PYTHON, "benchmarks/sanitizer_cases.py", "--device", target, "--ops", *ops)
    if dry:
        return [Step("sanitizer", "cases without a tool", script)]
    environment = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}  # each tensor an allocation of its own: overruns are seen
    skip = "" if tool else "compute-sanitizer was not found"
    options = ("--error-exitcode", "1", "--kernel-name", "kns=cips3d")
    return [
        Step("sanitizer", name, (tool or "", "--tool", name, *options, *script), limit, skip, environment)
        for name, limit in (("memcheck", 60.0), ("racecheck", 60.0))
    ]


def benchmark_steps(ops: Sequence[str], target: str, dry: bool) -> list[Step]:
    """Ceilings, then every benchmark script, the shortest first; rows are kept case by case."""
    options = ["--device", target, "--out", str(WORK / "rows.jsonl"), "--resume", "--rounds", "15"]
    options += ["--quick", "--no-compile"] if dry else []
    first = [name for name in ("volume_render", "siren_field", "render_rays") if name in ops]
    last = [] if dry else ["modfc", "inr", "generator", "train_step"]
    names = [*first, *(name for name in ops if name not in first + last), *last]
    scripts = [("ceilings", "ceilings.py"), *((name, f"bench_{name}.py") for name in names)]
    steps = [
        Step("benchmarks", name, (PYTHON, f"benchmarks/{script}", *options), 120.0)
        for name, script in scripts
        if (ROOT / "benchmarks" / script).exists()
    ]
    for module, (name, reason) in PEERS.items():
        there = subprocess.run([PYTHON, "-c", f"import {module}"], capture_output=True).returncode == 0
        if reason or not there:
            steps.append(Step("benchmarks", name, skip=reason if there else f"{module} cannot be imported"))
    return steps


def run_step(step: Step, marks: Marks, limit: float) -> None:
    """Runs one command, its output to the phase's log; stops it and all its children at the limit."""
    if step.skip:
        marks.set(step, "not run", 0.0, step.skip)
        return
    begun, part = time.monotonic(), WORK / f"{step.name}.part"
    with part.open("w") as output:
        process = subprocess.Popen(
            step.command,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env=os.environ | step.environment,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = None
    seconds, said = time.monotonic() - begun, part.read_text(errors="replace").strip()
    part.unlink()
    with (WORK / f"{step.phase}.log").open("a") as log:
        print(f"==== {step.name}: {' '.join(step.command)}\n{said}\n", file=log)
    if code is None:
        marks.set(step, "out of time", seconds, f"stopped after {limit:.0f} s")
    elif UNSUPPORTED in said:
        marks.set(step, "not run", seconds, f"compute-sanitizer: {UNSUPPORTED}")
    else:
        marks.set(step, "failed" if code else "passed", seconds, (said.splitlines() or [""])[-1][:160])


def run_phase(steps: Sequence[Step], marks: Marks, end: float) -> None:
    """The steps without a mark, one after the other; tests side by side, since they mostly compile and wait."""
    waiting = [step for step in steps if not marks.ended(step)]

    def run(step: Step) -> None:
        left = end - time.monotonic()
        if left > 0:
            run_step(step, marks, min(step.limit, left))

    with ThreadPoolExecutor(TESTS_AT_ONCE if steps[0].phase == "tests" else 1) as pool:
        list(pool.map(run, waiting))


def hand_over(out: Path, marks: Marks, device_name: str) -> None:
    """Logs, rows, marks, and the report with its plot, to OUTDIR: eight files at most."""
    lines = ["# GPU report", "", f"{device_name}; {commit()}", "", "| phase | step | state | seconds | note |"]
    lines += ["|---|---|---|---|---|"]
    for name, mark in marks.steps.items():
        note = mark["note"].replace("|", "/")
        lines.append(f"| {mark['phase']} | {name} | {mark['state']} | {mark['seconds']} | {note} |")
    tables, rows = WORK / "tables", WORK / "rows.jsonl"
    if rows.exists():
        tables.mkdir(exist_ok=True)
        shutil.copy(rows, tables)
        words = [PYTHON, "benchmarks/report.py", "--results", str(tables), "--pages"]
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
        page = tables / "README.md"
        lines += ["", page.read_text() if done.returncode == 0 else f"report.py failed: {done.stderr[-500:]}"]
    (WORK / "report.md").write_text("\n".join(lines) + "\n")
    wanted = [*WORK.glob("*.log"), marks.path, rows, WORK / "report.md", *tables.glob("roofline_*.png")]
    out.mkdir(parents=True, exist_ok=True)
    for path in wanted:
        if path.exists():
            shutil.copy(path, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outdir", type=Path, help="where the files go")
    parser.add_argument("--dry", action="store_true", help="one op on the CPU, to see that everything here runs")
    parser.add_argument("--seconds", type=float, default=MINUTES_NINE, help="time for this call")
    args = parser.parse_args()
    end = time.monotonic() + args.seconds - CLOSING
    name, capability = device()
    if not capability and not args.dry:
        raise SystemExit("gpu_report: torch sees no GPU here; --dry tries the report on the CPU")
    target = "cpu" if args.dry else "cuda"
    ops = [DRY_OP] if args.dry else sorted(path.parent.name for path in ROOT.glob("csrc/*/*_cuda.cu"))
    marks = Marks.load(WORK / "marks.json", f"{digest()} on {target} {name}")
    phases = [
        build_steps(capability, args.dry),
        test_steps(ops, target),
        sanitizer_steps(ops, target, args.dry),
        benchmark_steps(ops, target, args.dry),
    ]
    for steps in phases:
        run_phase(steps, marks, end)
        hand_over(args.outdir.resolve(), marks, name)
        if steps[0].phase == "build" and marks.steps.get("build", {}).get("state") not in ("passed", "not run"):
            break  # nothing after it can run
    every = [step for steps in phases for step in steps]
    missing = [step.name for step in every if not marks.ended(step)]
    print(f"to do in another call: {', '.join(missing)}" if missing else "complete", flush=True)
    failed = [step.name for step in every if marks.steps.get(step.name, {}).get("state") == "failed"]
    raise SystemExit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
