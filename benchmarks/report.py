"""Tables and plots from the rows in results/*.jsonl; of equal measurements the newest counts."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

RESULTS = Path(__file__).resolve().parent / "results"
NOT_SIZES = {"op", "contender", "direction", "error", "peak_mb", "cpu_ms", "cpu_ms_min", "wall_ms", "rounds", "torch",
             "cpu_level", "threads", "machine", "commit", "skipped", "iterations_per_second"}  # fmt: skip


def read(path: Path) -> list[dict[str, Any]]:
    newest: dict[str, dict[str, Any]] = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        key = json.dumps([row.get(k) for k in ("op", "contender", "direction", "machine", "threads")] + [sizes(row)])
        newest[key] = row
    return list(newest.values())


def sizes(row: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in row.items() if key not in NOT_SIZES)


def groups(rows: list[dict[str, Any]]) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    result: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        machine = f"{row['machine']}, {row['threads']} thread(s)"
        result.setdefault((sizes(row), row["direction"], machine), []).append(row)
    return result


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| case | direction | contender | time, ms | ours is x times as fast | error | peak MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for (case, direction, _), group in groups(rows).items():
        mine = next((row["cpu_ms"] for row in group if row["contender"] == "ours" and "cpu_ms" in row), None)
        for row in group:
            if "skipped" in row:
                cells = [f"not run: {row['skipped']}", "", "", ""]
            else:
                ratio = f"{row['cpu_ms'] / mine:.2f}" if mine else ""
                rate = f" ({row['iterations_per_second']} it/s)" if "iterations_per_second" in row else ""
                cells = [f"{row['cpu_ms']:.2f}{rate}", ratio, f"{row['error']:.1e}", f"{row['peak_mb']:.0f}"]
            lines.append(f"| {case} | {direction} | {row['contender']} | {' | '.join(cells)} |")
    machines = sorted({f"{r['machine']}, torch {r['torch']}, {r['cpu_level']}, {r['threads']} thread(s)" for r in rows})
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    return "\n".join([*lines, "", f"Measured on {'; '.join(machines)}; commits {commits}."])


def plot(op: str, rows: list[dict[str, Any]], out: Path) -> None:
    """One panel a case: bars of the contenders, as a multiple of ours."""
    chosen = {key: [r for r in g if "cpu_ms" in r] for key, g in groups(rows).items()}
    chosen = {key: g for key, g in chosen.items() if any(r["contender"] == "ours" for r in g)}
    if not chosen:
        return
    figure, axes = plt.subplots(len(chosen), 1, figsize=(8, 1 + 1.5 * len(chosen)), squeeze=False)
    for axis, ((case, direction, _), group) in zip(axes[:, 0], chosen.items(), strict=True):
        mine = next(row["cpu_ms"] for row in group if row["contender"] == "ours")
        names = [row["contender"] for row in group]
        values = [row["cpu_ms"] / mine for row in group]
        bars = axis.barh(names, values, color=["tab:orange" if name == "ours" else "tab:blue" for name in names])
        axis.bar_label(bars, fmt="%.2f", fontsize=7)
        axis.set_title(f"{case}, {direction}", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.invert_yaxis()
    figure.supxlabel(f"{op}: time as a multiple of ours", fontsize=8)
    figure.tight_layout()
    figure.savefig(out, dpi=90)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="folder of the jsonl files; tables go beside them"
    )
    folder = parser.parse_args().results
    sections = []
    for path in sorted(folder.glob("*.jsonl")):
        rows = read(path)
        plot(path.stem, rows, folder / f"{path.stem}.png")
        sections.append(f"## {path.stem}\n\n{table(rows)}\n\n![{path.stem}]({path.stem}.png)\n")
    (folder / "README.md").write_text("# Measured\n\nWritten by `benchmarks/report.py`.\n\n" + "\n".join(sections))
    print(folder / "README.md")


if __name__ == "__main__":
    main()
