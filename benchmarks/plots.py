"""Plots from rows: bars of the contenders, and curves over resolution, samples and batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from rows import OURS, Row, groups, measured, place, time_ms

matplotlib.use("Agg")
import matplotlib.pyplot as plt

AXES = {"resolution": "resolution, pixels a side", "samples": "samples a ray and pass", "batch": "images",
        "grad_rays": "rays with gradient, 256 x 256"}  # fmt: skip


def bars(op: str, rows: Sequence[Row], out: Path) -> bool:
    """One panel a case: times as a multiple of ours; False where there is nothing to show."""
    chosen = {key: [r for r in group if measured(r)] for key, group in groups(rows).items()}
    chosen = {key: group for key, group in chosen.items() if any(r["contender"] == OURS for r in group)}
    if not chosen:
        return False
    figure, axes = plt.subplots(len(chosen), 1, figsize=(8, 1 + 1.5 * len(chosen)), squeeze=False)
    for axis, ((case, direction, where), group) in zip(axes[:, 0], chosen.items(), strict=True):
        mine = next(time_ms(row) for row in group if row["contender"] == OURS)
        names = [row["contender"] for row in group]
        values = [time_ms(row) / mine for row in group]
        drawn = axis.barh(
            names, values, color=["tab:orange" if name.startswith(OURS) else "tab:blue" for name in names]
        )
        axis.bar_label(drawn, fmt="%.2f", fontsize=7)
        axis.set_title(f"{case}, {direction} ({where})", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.invert_yaxis()
    figure.supxlabel(f"{op}: time as a multiple of ours", fontsize=8)
    figure.tight_layout()
    figure.savefig(out, dpi=90)
    plt.close(figure)
    return True


def scaling(rows: Sequence[Row], out: Path) -> bool:
    """Time and peak memory over each of AXES, from rows whose `varies` names it; False where there are none."""
    rows = [row for row in rows if measured(row)]
    if not rows:
        return False
    figure, axes = plt.subplots(2, len(AXES), figsize=(4 * len(AXES), 6), squeeze=False)
    for column, (name, label) in enumerate(AXES.items()):
        here = [row for row in rows if row["varies"] == name]
        for contender in dict.fromkeys(row["contender"] for row in here):
            line = sorted((row for row in here if row["contender"] == contender), key=lambda row: row[name])
            x = [row[name] for row in line]
            values = [[time_ms(row) / 1e3 for row in line], [row["peak_mb"] for row in line]]
            for axis, y, title in zip(axes[:, column], values, ("seconds", "peak MB"), strict=True):
                axis.loglog(x, y, "o-", label=contender)
                axis.set(xlabel=label, ylabel=title)
                axis.set_xticks(x, [str(value) for value in x], minor=False)
                axis.minorticks_off()
                axis.grid(alpha=0.3, which="both")
        if here:
            axes[0, column].legend(fontsize=8)
    figure.suptitle(f"generator, forward and backward, {place(rows[0])}", fontsize=10)
    figure.tight_layout()
    figure.savefig(out, dpi=90)
    plt.close(figure)
    return True
