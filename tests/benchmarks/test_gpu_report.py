"""The GPU report's dry run: all four phases on the CPU, at most eight files, and a second call that goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import gpu_report
import pytest
import torch
from gpu_report import Marks, Step

ROOT = Path(__file__).resolve().parents[2]


def report(*words: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHON": sys.executable}
    command = [str(ROOT / "benchmarks" / "gpu_report.sh"), *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_dry_run_and_a_second_call(tmp_path):
    out = tmp_path / "out"
    (gpu_report.WORK / "marks.json").unlink(missing_ok=True)
    first = report(str(out), "--dry")
    assert first.returncode == 0, first.stdout + first.stderr
    marks = json.loads((out / "marks.json").read_text())["steps"]
    assert {mark["phase"] for mark in marks.values()} == {"build", "tests", "sanitizer", "benchmarks"}
    assert {mark["state"] for mark in marks.values()} == {"passed", "not run"}
    assert marks["nerfacc"]["state"] == "not run" and "cannot be imported" in marks["nerfacc"]["note"]
    names = {path.name for path in out.iterdir()}
    assert {"tests.log", "sanitizer.log", "benchmarks.log", "rows.jsonl", "report.md", "roofline_cpu.png"} < names
    assert len(names) <= 8
    assert "| tests | contract sample_pdf | passed |" in (out / "report.md").read_text()
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert {row["op"] for row in rows} == {"ceiling", "sample_pdf"}
    second = report(str(out), "--dry")
    assert second.stdout.strip().splitlines() == ["complete"], "a mark is not done again"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path):
    done = report(str(tmp_path / "out"))
    assert done.returncode != 0 and "torch sees no GPU here; --dry" in done.stderr


@pytest.fixture
def marks(tmp_path, monkeypatch) -> Marks:
    monkeypatch.setattr(gpu_report, "WORK", tmp_path / "work")
    return Marks.load(tmp_path / "work" / "marks.json", "version")


def command(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", code


def test_a_step_that_runs_out_of_time_is_stopped_with_its_children_and_done_again(marks):
    step = Step("tests", "endless", command("import subprocess as s; s.run(['sleep', '100'])"))
    gpu_report.run_step(step, marks, 1.0)
    assert marks.steps["endless"]["state"] == "out of time" and not marks.ended(step)


def test_failures_and_refusals_are_told_apart(marks):
    failing = Step("tests", "failing", command("raise SystemExit('why')"))
    refused = Step("sanitizer", "refused", command(f"raise SystemExit('{gpu_report.UNSUPPORTED}')"))
    absent = Step("sanitizer", "absent", skip="not found")
    for step in (failing, refused, absent):
        gpu_report.run_step(step, marks, 30.0)
    states = {name: (mark["state"], mark["note"]) for name, mark in marks.steps.items()}
    assert states["failing"] == ("failed", "why")
    assert states["refused"] == ("not run", f"compute-sanitizer: {gpu_report.UNSUPPORTED}")
    assert states["absent"] == ("not run", "not found")
    assert all(marks.ended(step) for step in (failing, refused, absent))


def test_marks_of_other_sources_are_forgotten(marks):
    marks.set(Step("build", "build"), "passed", 1.0)
    assert Marks.load(marks.path, "version").steps["build"]["state"] == "passed"
    assert Marks.load(marks.path, "other").steps == {}


def test_a_gpu_gets_every_op_and_both_sanitizers():
    ops = sorted(path.parent.name for path in ROOT.glob("csrc/*/*_cuda.cu"))
    (build,) = gpu_report.build_steps("9.0", dry=False)
    assert build.environment["TORCH_CUDA_ARCH_LIST"] == "9.0" and not build.skip
    assert [step.command[-1] for step in gpu_report.test_steps(ops, "cuda")] == [f"cuda and {op}" for op in ops]
    assert [s.name for s in gpu_report.sanitizer_steps(ops, "cuda", dry=False)] == ["memcheck", "racecheck"]
    names = [step.name for step in gpu_report.benchmark_steps(ops, "cuda", dry=False)]
    assert {"ceilings", "generator", "train_step", *ops} <= set(names) and names[0] == "ceilings"
