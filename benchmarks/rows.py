"""Reading the rows of results/*.jsonl: of equal measurements the newest counts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
# What a row says besides its sizes.
NOT_SIZES = {"op", "contender", "direction", "error", "gradient_error", "repeatable", "peak_mb", "held_mb", "cpu_ms",
             "cpu_ms_min", "wall_ms", "rounds", "device", "torch", "cpu_level", "threads", "machine", "load", "commit",
             "limit", "skipped", "iterations_per_second", "ceiling", "value", "unit"}  # fmt: skip
OURS = "ours"
WORDS = {"dtype", "set", "model", "part", "preset", "field"}  # sizes whose values speak for themselves


def read(folder: Path) -> list[Row]:
    """The newest row of every measurement, in the order of their first appearance, files by name."""
    newest: dict[str, Row] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            row = {"device": "cpu", **json.loads(line)}
            names = ("op", "contender", "direction", "ceiling", "device", "machine", "threads", "limit")
            newest[json.dumps([row.get(name) for name in names] + [sizes(row)])] = row
    return list(newest.values())


def sizes(row: Row) -> str:
    named = {key: value for key, value in row.items() if key not in NOT_SIZES}
    return ", ".join(str(value) if key in WORDS else f"{key} {value}" for key, value in named.items())


def by_op(rows: Iterable[Row]) -> dict[str, list[Row]]:
    result: dict[str, list[Row]] = {}
    for row in rows:
        result.setdefault(row["op"], []).append(row)
    return result


def groups(rows: Iterable[Row]) -> dict[tuple[str, str, str], list[Row]]:
    """Rows that compete with each other, by (sizes, direction, machine)."""
    result: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        result.setdefault((sizes(row), row["direction"], place(row)), []).append(row)
    return result


def place(row: Row) -> str:
    threads = "" if row["device"] == "cuda" else f", {row['threads']} thread{'s' if row['threads'] != 1 else ''}"
    limit = f", {row['limit']} alone" if "limit" in row else ""
    return f"{row['machine']}{threads}{limit}"


def plain(row: Row) -> bool:
    """Whether a row is of a GPU, or of one CPU thread with everything that the CPU can do."""
    return row["device"] == "cuda" or (row["threads"] == 1 and "limit" not in row)


def measured(row: Row) -> bool:
    return "cpu_ms" in row


def time_ms(row: Row) -> float:
    """What is compared: the smallest process CPU time on a CPU, the median time on a GPU."""
    return row["cpu_ms_min"] if row["device"] == "cpu" else row["cpu_ms"]


def find(rows: Iterable[Row], **wanted: Any) -> Row | None:
    """The first row that was measured and has these entries."""
    return next((row for row in rows if measured(row) and wanted.items() <= row.items()), None)


def provenance(rows: Iterable[Row]) -> str:
    """Machines, versions and commits, as a sentence."""
    rows = list(rows)
    kinds = sorted({f"{place(r)}, torch {r['torch']}" + f", {r['cpu_level']}" * (r["device"] == "cpu") for r in rows})
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    return f"Measured on {'; '.join(kinds)}; commits {commits}."
