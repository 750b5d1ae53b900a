"""Every benchmark runs (small), its rows are whole, and the report makes a table and a plot of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OPS = sorted(path.stem.removeprefix("bench_") for path in (ROOT / "benchmarks").glob("bench_*.py"))


def run(*words: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    for op in OPS:
        out = str(folder / f"{op}.jsonl")
        run(f"benchmarks/bench_{op}.py", "--quick", "--no-compile", "--device", "cpu", "--rounds", "1", "--out", out)
    return folder


def test_there_is_a_benchmark_for_every_op():
    assert OPS == ["film_sine", "merge_samples", "modfc", "sample_pdf", "volume_render"]


@pytest.mark.parametrize("op", OPS)
def test_rows(results, op):
    rows = [json.loads(line) for line in (results / f"{op}.jsonl").read_text().splitlines()]
    assert {"ours"} < {row["contender"] for row in rows}
    for row in rows:
        assert {"torch", "cpu_level", "threads", "machine", "commit", "error", "peak_mb", "cpu_ms", "wall_ms"} <= set(
            row
        )
        limit = 0.2 if row.get("dtype") == "bfloat16" else 1e-4
        assert row["cpu_ms"] >= 0 and row["error"] < limit, row


def test_the_papers_comparison_is_there(results):
    rows = [json.loads(line) for line in (results / "modfc.jsonl").read_text().splitlines()]
    paper = {row["contender"]: row for row in rows if row.get("set") == "paper_modfc"}
    assert {"grouped conv", "bmm", "scaled", "ours"} == set(paper)
    assert all(row["iterations_per_second"] > 0 for row in paper.values())


def test_report(results):
    run("benchmarks/report.py", "--results", str(results))
    text = (results / "README.md").read_text()
    for op in OPS:
        assert f"## {op}" in text and (results / f"{op}.png").stat().st_size > 0
