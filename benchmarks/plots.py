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

GAINS = {"forward": "forward", "forward+backward": "forward and backward", "step": "second order"}


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


def hosts(rows: Sequence[Row]) -> dict[tuple[str, str, str], list[Row]]:
    """Rows of `peers` by (host, shape, machine)."""
    result: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        result.setdefault((row["host"], row["shape"], place(row)), []).append(row)
    return result


def gains(rows: Sequence[Row], out: Path) -> bool:
    """How many times as fast every layer of other GANs becomes, a bar a direction; False where there are none."""
    rows = [row for row in rows if measured(row)]
    if not rows:
        return False
    named = {name: group for (name, *_), group in hosts(rows).items()}
    figure, axis = plt.subplots(figsize=(8, 1 + 0.45 * len(named)))
    for position, (direction, label) in enumerate(GAINS.items()):
        bars = {}
        for line, group in enumerate(named.values()):
            times = {row["contender"]: time_ms(row) for row in group if row["direction"] == direction}
            if {"eager", OURS} <= times.keys():
                bars[line + 0.27 * (position - 1)] = times["eager"] / times[OURS]
        drawn = axis.barh(list(bars), list(bars.values()), height=0.25, label=label)
        axis.bar_label(drawn, fmt="%.2f", fontsize=6, padding=2)
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set(yticks=range(len(named)), xlabel="the host's time as a multiple of ours", xscale="log")
    ticks = [0.5, 1, 2, 3, 5, 8]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    axis.minorticks_off()
    axis.set_yticklabels(list(named), fontsize=7)
    axis.invert_yaxis()
    axis.legend(fontsize=7)
    axis.set_title(f"cips3d_ext.accelerate, {place(rows[0])}", fontsize=9)
    figure.tight_layout()
    figure.savefig(out, dpi=110)
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
