"""Every benchmark runs (small), its rows are whole, and the report makes a table and a plot of them."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import field_shapes
import harness
import official_form
import pytest
import roofline
import torch

import cips3d_ext

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.stem.removeprefix("bench_") for path in (ROOT / "benchmarks").glob("bench_*.py"))
OPS = [name for name in SCRIPTS if name != "train_step"]  # whose rows have contenders with equal results

SMALL = ("--quick", "--no-compile", "--device", "cpu", "--rounds", "1")
# argv: the folder, then the options of every script; importing torch once
ALL_IN_ONE_PROCESS = """
import pathlib, runpy, sys
folder, options = sys.argv[1], sys.argv[2:]
sys.path.insert(0, "benchmarks")
for script in ["benchmarks/ceilings.py", *sorted(map(str, pathlib.Path("benchmarks").glob("bench_*.py")))]:
    name = pathlib.Path(script).stem.removeprefix("bench_")
    sys.argv = [script, *options, "--out", f"{folder}/{name}.jsonl"]
    runpy.run_path(script, run_name="__main__")
"""


def run(*words: str) -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'python'}"}
    result = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    run("-c", ALL_IN_ONE_PROCESS, str(folder), *SMALL)
    return folder


@pytest.mark.parametrize("op", OPS)
def test_rows(results, op):
    rows = [json.loads(line) for line in (results / f"{op}.jsonl").read_text().splitlines()]
    assert {"ours"} < {row["contender"] for row in rows}
    for row in rows:
        assert {"device", "torch", "cpu_level", "threads", "machine", "load", "commit"} <= set(row)
        assert row["cpu_ms"] >= 0 and row["wall_ms"] >= 0 and row["peak_mb"] >= 0 and row["repeatable"], row
        rounded = (
            row.get("dtype") == "bfloat16"
        )  # there a leaky ReLU's argument near 0 changes sign: no limit for gradients
        assert row["error"] < (0.2 if rounded else 1e-4), row
        assert rounded or row.get("gradient_error", 0) < 1e-4, row
        assert (row["direction"] == "forward+backward") == ("held_mb" in row)


def test_the_generators_agree_and_their_scaling_is_there(results):
    rows = [json.loads(line) for line in (results / "generator.jsonl").read_text().splitlines()]
    main = {row["contender"]: row for row in rows if row["op"] == "generator" and "gradient_error" in row}
    assert set(main) == {"official", "reference", "ours"}
    assert {row["varies"] for row in rows if row["op"] == "generator_scaling"} == {
        "resolution",
        "samples",
        "batch",
        "grad_rays",
    }


def test_parts_of_a_training_step(results):
    rows = [json.loads(line) for line in (results / "train_step.jsonl").read_text().splitlines()]
    assert len(rows) == 16 and {row["contender"] for row in rows} == {"ours", "reference"}
    parts = {row["part"] for row in rows}
    assert {"data", "discriminator, R1", "render with gradient", "generator", "whole step"} < parts
    assert all(row["cpu_ms"] > 0 for row in rows)


@pytest.mark.parametrize("name", field_shapes.FIELDS)
def test_a_field_is_counted_as_its_tensors_say(name):
    shape = field_shapes.FIELDS[name]
    field = official_form.Field.of(official_form.example_field(1, shape))
    sines, heads = [*field.layers, field.colour], [field.density, field.feature]
    assert 2 * sum(weight.numel() for weight, _ in [*sines, *heads]) == shape.flops
    assert sum(len(bias) for _, bias in heads) == shape.outputs
    assert [len(bias) for _, bias in sines] == [film.shape[1] for film in field.beta]
    assert sum(film.shape[1] for film in field.gamma) == shape.sines


def test_ceilings(results):
    rows = [json.loads(line) for line in (results / "ceilings.jsonl").read_text().splitlines()]
    assert {row["ceiling"] for row in rows} == {"copy", "matmul float32", "matmul bfloat16"}
    assert all(row["value"] > 0 for row in rows)


def test_a_second_run_measures_only_what_is_missing(tmp_path):
    out = tmp_path / "rows.jsonl"
    words = ["benchmarks/bench_film_sine.py", *SMALL, "--resume", "--out", str(out)]
    run(*words)
    lines = out.read_text().splitlines()
    out.write_text("\n".join(lines[4:]) + "\n")  # without the first case
    run(*words)
    again = out.read_text().splitlines()
    assert again[: len(lines) - 4] == lines[4:] and len(again) == len(lines)


@pytest.mark.skipif(cips3d_ext.status().cpu_level == "portable", reason="this CPU has no AVX2")
def test_rows_held_to_avx2_have_a_table_of_their_own(tmp_path):
    out = tmp_path / "film_sine.jsonl"
    run("benchmarks/bench_film_sine.py", *SMALL, "--out", str(out))
    run("benchmarks/bench_film_sine.py", *SMALL, "--avx2", "--out", str(out))
    limited = [row for row in map(json.loads, out.read_text().splitlines()) if row.get("limit") == "AVX2"]
    assert limited and {row["cpu_level"] for row in limited} == {"avx2"}
    ceiling = {key: limited[0][key] for key in ("device", "machine", "threads", "load", "commit", "torch")}
    ceiling |= {"op": "ceiling", "ceiling": "copy", "value": 10.0, "unit": "GB/s"}
    (tmp_path / "ceilings.jsonl").write_text(json.dumps(ceiling))
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- report: {name} -->\n<!-- end -->\n" for name in ("speed", "other ways")))
    run("benchmarks/report.py", "--results", str(tmp_path), "--pages", str(page))
    speed, other_ways = page.read_text().split("<!-- report: other ways -->")
    lines = other_ways.count("1 thread, AVX2 alone")
    assert lines == len({(row["I"], row["O"], row["dtype"], row["direction"]) for row in limited})
    assert "AVX2" not in speed


def test_a_slow_contender_is_left_out_with_its_reason():
    x = torch.ones(3, requires_grad=True)
    runs = []

    def slow():
        runs.append(time.sleep(0.1))
        return x * 2

    made = [harness.Contender("slow", slow, [x], slowest_s=0.05), harness.Contender("quick", lambda: x * 2, [x])]
    rows = harness.measure("op", {}, made, harness.in_float64(lambda wide: wide * 2, [x]), rounds=1)
    assert len(runs) == 2
    assert [row["skipped"] for row in rows if row["contender"] == "slow"] == ["one forward takes 0 s"] * 2
    assert all("cpu_ms" in row for row in rows if row["contender"] == "quick")


def test_the_papers_comparison_is_there(results):
    rows = [json.loads(line) for line in (results / "modfc.jsonl").read_text().splitlines()]
    paper = {row["contender"]: row for row in rows if row.get("set") == "paper_modfc"}
    assert {"grouped conv", "bmm", "scaled", "ours"} == set(paper)
    assert all(row["iterations_per_second"] > 0 for row in paper.values())


def test_report(results, tmp_path):
    page = tmp_path / "page.md"
    marks = "".join(
        f"<!-- report: {name} -->\nold\n<!-- end -->\n"
        for name in ("speed", "floors", "aims", "predictions", "memory", "models", "peers")
    )
    page.write_text(f"before\n{marks}after\n")
    run("benchmarks/report.py", "--results", str(results), "--pages", str(page))
    text = (results / "README.md").read_text()
    for op in OPS:
        assert f"## {op}" in text
        assert op in ("models", "peers") or (results / f"{op}.png").stat().st_size > 0
    for name in ("roofline_cpu.png", "scaling_cpu.png", "peers_cpu.png"):
        assert (results / name).stat().st_size > 0
    assert "| tiny, batch 4, whole step | ours |" in text
    lines = page.read_text().splitlines()
    assert lines[0] == "before" and lines[-1] == "after" and "old" not in lines
    assert "not measured" in page.read_text(), "no GPU row is there"
    number = r"\d+\.\d"
    assert re.search(rf"\| pi-GAN FiLMLayer \| [^|]+ \| {number} \| {number} \| {number} \|", page.read_text())
    assert "| eg3d, resolution" in page.read_text()
    assert re.search(r"\| 8 x 8 \| all \| official \| [^|]+ \| \d+ \| \d+ \|", page.read_text())


def test_floors_follow_from_work_and_ceilings():
    """A product of 2 GFLOP at 100 GFLOP/s, twice that backward; a merge of 4 + 4 MB at 8 GB/s."""
    place = {"device": "cpu", "machine": "m", "threads": 1}
    values = {"matmul float32": 100.0, "copy": 8.0}
    ceilings = [{**place, "op": "ceiling", "ceiling": name, "value": value} for name, value in values.items()]
    product = {**place, "op": "modfc", "B": 1, "N": 10**6, "I": 10, "O": 100, "direction": "forward"}
    assert roofline.floor({**product, "I": 1000, "O": 1}, ceilings).bound == "memory"
    product |= {"N": 1000, "I": 1000, "O": 1000}
    assert roofline.floor(product, ceilings) == (pytest.approx(20, rel=0.01), "arithmetic")
    assert roofline.floor({**product, "direction": "forward+backward"}, ceilings).ms == pytest.approx(60, rel=0.01)
    merge = {**place, "op": "merge_samples", "P": 1000, "S": 10, "C": 99, "direction": "forward"}
    assert roofline.floor(merge, ceilings) == (pytest.approx(1.0), "memory")
    assert roofline.floor({**merge, "machine": "other"}, ceilings) is None
