"""How long a case must take at least on a machine, from what the op has to compute and to move, and the plot of it.

The work is the least there is: every input read once, every output written once, every product done once (a backward
pass that recomputes does more and so stays further from its floor). The rates are measured by ceilings.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import matplotlib
from field_shapes import FIELDS
from rows import Row, measured, place, time_ms

matplotlib.use("Agg")
import matplotlib.pyplot as plt

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
SINE_FLOPS = 22  # reduction and polynomial of a sine by multiply-adds (csrc/common/simd_math.h), on a CPU
SCAN_FLOPS = 16  # of a sample in volume rendering, besides its features: exp, products, sums

# CIPS-3D's INR, 32 -> 18 layers of 512, six of them -> 3, of one pixel
INR_FLOPS = 2 * (32 * 512 + 17 * 512 * 512 + 6 * 512 * 3)


@dataclass(frozen=True)
class Work:
    """Floating-point operations, bytes moved, sines and exponentials."""

    flops: float
    moved: float
    special: float = 0.0

    def times(self, flops: float, moved: float, special: float = 1.0) -> Work:
        return Work(self.flops * flops, self.moved * moved, self.special * special)


class Floor(NamedTuple):
    """Least time in ms, and what bounds it."""

    ms: float
    bound: str


def _modfc(row: Row) -> list[Work]:
    B, N, I, O = (row[key] for key in "BNIO")
    forward = Work(2 * B * N * I * O + 2 * B * I * O, B * N * (I + O) + O * I + B * I)
    return [forward, forward.times(2, 2)]  # products for x and the weights; x, y, dy in, dx out


def _film_sine(row: Row) -> list[Work]:
    B, N, I, O = (row[key] for key in "BNIO")
    forward = Work(2 * B * N * I * O, B * N * (I + O) + O * I, B * N * O)
    return [forward, forward.times(2, 2)]


def _volume_render(row: Row) -> list[Work]:
    R, S, C = (row[key] for key in "RSC")
    flops, results = R * S * (2 * C + SCAN_FLOPS), R * (C + 1)
    backward = Work(2 * flops, R * S * (2 * C + 3) + results, R * S)  # density, depth, features in; two gradients out
    return [Work(flops, R * S * (C + 2) + results, R * S), backward]


def _merge_samples(row: Row) -> list[Work]:
    P, S, C = (row[key] for key in "PSC")
    return [Work(0, 2 * P * S * (C + 1)), Work(0, 2 * P * S * C)]


def _sample_pdf(row: Row) -> list[Work]:
    return [Work(0, row["P"] * (2 * row["bins"] - 1 + 2 * row["n"]))]


def _sample_planes(row: Row) -> list[Work]:
    B, P, C, H, N = (row[key] for key in ("B", "P", "C", "H", "N"))
    return [Work(B * N * P * 4 * 2 * C, B * (P * C * H * H + N * (C + 3)))] * 2


def _sample_volume(row: Row) -> list[Work]:
    B, C, D, N = (row[key] for key in ("B", "C", "D", "N"))
    return [Work(B * N * 8 * 2 * C, B * (C * D**3 + N * (C + 3)))] * 2


def _siren_field(row: Row) -> list[Work]:
    N, field = row["points"], FIELDS[row["field"]]
    forward = Work(field.flops * N, (3 + field.outputs) * N, field.sines * N)
    # nothing of a layer is kept: the forward products and sines, their cosines, and two products for each of the first
    return [forward, Work(3 * forward.flops, (6 + field.outputs) * N, 2 * forward.special)]


def _render_rays(row: Row) -> list[Work]:
    R, S = row["rays"], row["S"]
    points, field = 2 * S * R, FIELDS["cips3d"]
    forward = Work(field.flops * points, R * (6 + 2 * S + field.outputs + 2 * S), field.sines * points)
    return [forward, Work(3 * forward.flops, R * (6 + 3 * S + field.outputs + 2 * S), 2 * forward.special)]


def _inr(row: Row) -> list[Work]:
    if row.get("preset", "released") != "released":
        return []
    pixels = row["B"] * row["N"]
    forward = Work(INR_FLOPS * pixels, (32 + 3) * pixels)
    return [forward, forward.times(2, 2)]


def _generator(row: Row) -> list[Work]:
    """The released generator's products; memory is far from bounding it."""
    if row.get("preset", "released") != "released":
        return []
    pixels = row["batch"] * row["resolution"] ** 2
    points, field = 2 * row["samples"] * pixels, FIELDS["cips3d"]
    forward = Work(INR_FLOPS * pixels + field.flops * points, 0, field.sines * points)
    return [forward, Work((2 * INR_FLOPS * pixels + 3 * field.flops * points), 0, 2 * forward.special)]


WORK: dict[str, Callable[[Row], list[Work]]] = {
    "modfc": _modfc,
    "film_sine": _film_sine,
    "volume_render": _volume_render,
    "merge_samples": _merge_samples,
    "sample_pdf": _sample_pdf,
    "sample_planes": _sample_planes,
    "sample_volume": _sample_volume,
    "siren_field": _siren_field,
    "render_rays": _render_rays,
    "inr": _inr,
    "generator": _generator,
}


def work(row: Row) -> list[Work]:
    """The work of the row's passes (forward, or forward and backward), moved in bytes; [] for what has no model."""
    if row["op"] not in WORK:
        return []
    size = BYTES[row.get("dtype", "float32")]
    passes = [Work(w.flops, size * w.moved, w.special) for w in WORK[row["op"]](row)]
    return passes[:1] if row["direction"] == "forward" else passes


def rates(row: Row, ceilings: Sequence[Row]) -> dict[str, float]:
    """Measured rates of the row's machine in units a second: products, copying, and sines or exponentials."""
    same = [c for c in ceilings if place(c) == place(row)]
    found = {c["ceiling"]: c["value"] * 1e9 for c in same}
    names = {"compute": f"matmul {row.get('dtype', 'float32')}", "copy": "copy", "special": "exp"}
    result = {key: found[name] for key, name in names.items() if name in found}
    if row["device"] == "cpu" and "matmul float32" in found:  # sines of every dtype are computed in float32
        result["special"] = found["matmul float32"] / SINE_FLOPS
    return result


def floor(row: Row, ceilings: Sequence[Row]) -> Floor | None:
    """The least time of a row, or None where the op has no model or its machine no ceilings."""
    passes, rate = work(row), rates(row, ceilings)
    if not passes or not {"compute", "copy"} <= rate.keys():
        return None
    total, bounds = 0.0, set()
    for one in passes:
        seconds = {"arithmetic": one.flops / rate["compute"], "memory": one.moved / rate["copy"]}
        special = one.special / rate["special"] if "special" in rate else 0.0
        if row["device"] == "cpu":  # the same units do both
            seconds["arithmetic"] += special
        else:
            seconds["special functions"] = special
        bound = max(seconds, key=lambda name: seconds[name])
        total += seconds[bound]
        bounds.add(bound)
    return Floor(1e3 * total, " and ".join(sorted(bounds)))


def plot(rows: Sequence[Row], ceilings: Sequence[Row], out: Path) -> bool:
    """Arithmetic rate over arithmetic intensity of our kernels under the roofs of one machine; False without rows."""
    points = [row for row in rows if measured(row) and row["contender"] == "ours" and floor(row, ceilings)]
    points = [row for row in points if all(w.moved for w in work(row))]
    if not points:
        return False
    figure, axis = plt.subplots(figsize=(8, 5.5))
    for dtype in sorted({row.get("dtype", "float32") for row in points}):
        chosen = [row for row in points if row.get("dtype", "float32") == dtype]
        rate = rates(chosen[0], ceilings)
        intensities = [2.0**k for k in range(-3, 15)]
        roof = [min(rate["compute"], rate["copy"] * i) / 1e9 for i in intensities]
        (line,) = axis.loglog(intensities, roof, label=f"roof, {dtype}")
        for op, marker in zip(WORK, "osD^vP*Xp", strict=False):
            mine = [(row, work(row)) for row in chosen if row["op"] == op]
            flops = [sum(w.flops + SINE_FLOPS * w.special for w in passes) for _, passes in mine]
            x = [f / sum(w.moved for w in passes) for f, (_, passes) in zip(flops, mine, strict=True)]
            y = [f / time_ms(row) / 1e6 for f, (row, _) in zip(flops, mine, strict=True)]
            if any(flops):
                axis.scatter(x, y, marker=marker, color=line.get_color(), s=24, label=f"{op}, {dtype}")
    axis.set(xlabel="arithmetic intensity, FLOP/byte", ylabel="GFLOP/s", title=place(points[0]))
    axis.grid(alpha=0.3, which="both")
    axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(out, dpi=90)
    plt.close(figure)
    return True
