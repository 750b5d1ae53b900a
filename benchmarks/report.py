"""Tables and plots from the rows in results/*.jsonl alone.

    python benchmarks/report.py

Writes every table and plot to results/, and the summaries into README.md and benchmarks/README.md, each between the
lines `<!-- report: NAME -->` and `<!-- end -->`. What has no row is "not measured".
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import plots
import roofline
from rows import OURS, Row, by_op, find, groups, measured, place, plain, provenance, read, sizes, time_ms

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = (ROOT / "README.md", ROOT / "benchmarks" / "README.md")
PREDICTIONS = Path(__file__).with_name("predictions.json")
AIMS = Path(__file__).with_name("aims.json")
DIRECTIONS = ("forward", "forward+backward")
DEVICES = ("cpu", "cuda")
ABSENT = "not measured"
WITHOUT_BARS = ("peers", "models")  # many cases of few contenders
APART = ("ceiling", "generator_scaling", "train_step", *WITHOUT_BARS)  # rows with tables of their own kind


def markdown(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [titles, ["---"] * len(titles), *lines])


def op_table(rows: Sequence[Row]) -> str:
    """All rows of one op."""
    lines = []
    for (case, direction, where), group in groups(rows).items():
        mine = find(group, contender=OURS)
        for row in group:
            cells = [case, direction, where, row["contender"]]
            if not measured(row):
                lines.append([*cells, f"not run: {row['skipped']}", "", "", "", "", "", ""])
                continue
            rate = f" ({row['iterations_per_second']} it/s)" if "iterations_per_second" in row else ""
            lines.append([
                *cells,
                f"{time_ms(row):.2f}{rate}",
                f"{time_ms(row) / time_ms(mine):.2f}" if mine else "",
                f"{row['error']:.1e}",
                f"{row['gradient_error']:.1e}" if "gradient_error" in row else "",
                f"{row['peak_mb']:.0f}",
                f"{row['held_mb']:.0f}" if "held_mb" in row else "",
                {True: "yes", False: "no"}.get(row.get("repeatable"), ""),
            ])  # fmt: skip
    titles = ["case", "direction", "machine", "contender", "time, ms", "ours is x times as fast", "error",
              "gradient error", "peak MB", "held MB", "same bits again"]  # fmt: skip
    return f"{markdown(titles, lines)}\n\n{provenance(rows)}"


def advantage(group: Sequence[Row], compiled: bool) -> str:
    """How many times as long as ours the best of the others takes, and which one that is."""
    mine = find(group, contender=OURS)
    others = [r for r in group if measured(r) and not r["contender"].startswith(OURS)]
    others = [r for r in others if r["contender"].startswith("compile(") == compiled]
    if mine is None or not others:
        return "-"
    best = min(others, key=time_ms)
    name = best["contender"].removeprefix("compile(").rstrip(")")
    return f"{time_ms(best) / time_ms(mine):.1f}" + (f" ({name})" if len(others) > 1 else "")


def speed(rows: Sequence[Row]) -> str:
    """Per device: how many times as long the best eager and the best compiled form take as ours."""
    sections = []
    for device in DEVICES:
        lines, used = [], []
        for op, all_rows in by_op(r for r in rows if r["op"] not in APART).items():
            here = [row for row in all_rows if row["device"] == device and plain(row)]
            for case in dict.fromkeys(sizes(row) for row in here):
                both = [[r for r in here if (sizes(r), r["direction"]) == (case, d)] for d in DIRECTIONS]
                cells = [advantage(group, compiled) for compiled in (False, True) for group in both]
                if set(cells) != {"-"}:
                    lines.append([f"`{op}` {case}", *cells])
                    used += here
            if not here:
                lines.append([f"`{op}`", *[ABSENT] * 4])
        titles = ["eager, forward", "eager, forward + backward", "torch.compile, forward", "torch.compile, both"]
        note = provenance(used) if used else f"GPU: {ABSENT}; the CUDA kernels have run on the emulator alone."
        sections.append(f"{markdown([device.upper(), *titles], lines)}\n\n{note}")
    return "\n\n".join(sections)


def floors(rows: Sequence[Row]) -> str:
    """Our kernels against the least time that their machine allows."""
    ceilings = [row for row in rows if row["op"] == "ceiling"]
    lines = []
    for row in rows:
        least = roofline.floor(row, ceilings) if measured(row) and row["contender"] == OURS else None
        if least:
            cells = [f"`{row['op']}` {sizes(row)}", row["direction"], place(row), f"{least.ms:.2f}", least.bound]
            lines.append([*cells, f"{time_ms(row):.2f}", share(least, row)])
    limits = [[c["ceiling"], place(c), f"{c['value']:g} {c['unit']}"] for c in ceilings]
    if not any(row["device"] == "cuda" for row in ceilings):
        limits.append(["copy, matrix products, exponentials", "GPU", ABSENT])
    titles = ["kernel", "direction", "machine", "floor, ms", "bound by", "measured, ms", "floor / measured"]
    return f"{markdown(['ceiling', 'machine', 'measured'], limits)}\n\n{markdown(titles, lines)}"


def share(least: roofline.Floor, row: Row) -> str:
    return f"{100 * least.ms / time_ms(row):.0f} %"


def aims(rows: Sequence[Row]) -> str:
    """How many times as fast as others our CPU kernels were to be and are, and their share of what is possible."""
    ceilings, lines = [row for row in rows if row["op"] == "ceiling"], []
    for wanted in json.loads(AIMS.read_text()):
        times, against = wanted.pop("times"), wanted.pop("against")
        case = sizes(wanted), wanted["direction"]
        here = [r for r in rows if r["op"] == wanted["op"] and r["device"] == "cpu" and plain(r)]
        here = [r for r in here if (sizes(r), r["direction"]) == case]
        mine = find(here, contender=OURS)
        if against in ("eager", "compile"):
            seen = advantage(here, against == "compile")
        else:
            other = find(here, contender=against)
            seen = f"{time_ms(other) / time_ms(mine):.1f}" if other and mine else "-"
        least = roofline.floor(mine, ceilings) if mine else None
        cells = [f"`{wanted['op']}` {case[0]}", case[1], against, str(times), seen]
        lines.append([*cells, share(least, mine) if least else "-"])
    titles = ["kernel", "direction", "against", "aimed at", "measured", "floor / measured"]
    return markdown(titles, lines)


def predictions(rows: Sequence[Row]) -> str:
    """What was predicted for an H100 beside what a GPU showed."""
    lines = []
    for wanted in json.loads(PREDICTIONS.read_text()):
        us = wanted.pop("us")
        on_gpu = find(rows, **wanted, contender=OURS, device="cuda")
        seen = f"{1e3 * time_ms(on_gpu):.0f} ({place(on_gpu)})" if on_gpu else ABSENT
        lines.append([f"`{wanted['op']}` {sizes(wanted)}", wanted["direction"], str(us), seen])
    return markdown(["kernel", "direction", "predicted, us", "measured, us"], lines)


def other_ways(rows: Sequence[Row]) -> str:
    """Our kernels on several CPU threads, or held to AVX2: against the others there, and against one thread."""
    lines = []
    for (case, direction, where), group in groups(r for r in rows if r["op"] not in APART and not plain(r)).items():
        mine = find(group, contender=OURS)
        if mine is None:
            continue
        alone = [r for r in rows if r["op"] == mine["op"] and plain(r) and r["machine"] == mine["machine"]]
        alone = [r for r in alone if (r["contender"], sizes(r), r["direction"]) == (OURS, case, direction)]
        comparable = mine["threads"] > 1 and alone and measured(alone[0])
        wall = f"{alone[0]['wall_ms'] / mine['wall_ms']:.2f}" if comparable else "-"
        cells = [where, f"{mine['load']:g}", *(advantage(group, compiled) for compiled in (False, True)), wall]
        lines.append([f"`{mine['op']}` {case}", direction, *cells])
    titles = ["kernel", "direction", "machine", "load", "eager", "torch.compile", "our one thread's wall time"]
    return markdown(titles, lines) if lines else ABSENT


def training(rows: Sequence[Row]) -> str:
    """Where the time of a training step goes."""
    lines = [
        [sizes(r), r["contender"], place(r), f"{time_ms(r):.0f}", f"{r['peak_mb']:.0f}"]
        for r in rows
        if r["op"] == "train_step" and measured(r)
    ]
    return markdown(["part", "contender", "machine", "time, ms", "peak MB"], lines) if lines else ABSENT


def memory(rows: Sequence[Row]) -> str:
    """Memory of one image by resolution, before and after the fused renderer, and by rays that carry gradient."""
    lines = []
    for r in rows:
        if r["op"] == "generator_scaling" and r["varies"] in ("resolution", "grad_rays"):
            cells = [f"{r['peak_mb']:.0f}", f"{r['held_mb']:.0f}", f"{time_ms(r) / 1e3:.1f}"] if measured(r) else []
            cells = cells or [f"not run: {r['skipped']}", "", ""]
            size = f"{r['resolution']} x {r['resolution']}"
            lines.append([size, str(r.get("grad_rays", "all")), r["contender"], place(r), *cells])
    titles = ["resolution", "rays with gradient", "contender", "machine", "peak MB", "held for backward, MB", "seconds"]
    return markdown(titles, lines) if lines else ABSENT


def models(rows: Sequence[Row]) -> str:
    """Images a second and memory of whole generators."""
    lines, used = [], [r for r in rows if r["op"] == "models" and measured(r)]
    for (case, direction, where), group in groups(used).items():
        for row in group:
            rate = 1e3 * row["batch"] / time_ms(row)
            lines.append([case, direction, where, row["contender"], f"{rate:.2f}", f"{row['peak_mb']:.0f}"])
    titles = ["generator", "direction", "machine", "contender", "images/s", "peak MB"]
    return f"{markdown(titles, lines)}\n\n{provenance(used)}" if lines else ABSENT


def peers(rows: Sequence[Row]) -> str:
    """Layers and renderers of other GANs: how many times as long their own code takes as ours. A table a machine."""
    used = [row for row in rows if row["op"] == "peers" and measured(row)]
    lines: dict[str, list[list[str]]] = {}
    for (host, shape, where), group in plots.hosts(used).items():
        parts = [[r for r in group if r["direction"] == direction] for direction in (*DIRECTIONS, "step")]
        cells = [advantage(part, False) for part in parts] + [advantage(part, True) for part in parts[:2]]
        lines.setdefault(where, []).append([host, shape, *cells])
    titles = ["its input", "forward", "forward and backward", "second order", "torch.compile, forward",
              "torch.compile, both"]  # fmt: skip
    tables = [markdown([where, *titles], here) for where, here in lines.items()]
    return "\n\n".join([*tables, provenance(used)]) if lines else ABSENT


SUMMARIES: dict[str, Callable[[Sequence[Row]], str]] = {
    "speed": speed,
    "floors": floors,
    "aims": aims,
    "predictions": predictions,
    "training": training,
    "models": models,
    "peers": peers,
    "memory": memory,
    "other ways": other_ways,
}


def write_results(rows: Sequence[Row], folder: Path) -> None:
    """folder/README.md and the plots beside it."""
    sections = []
    for op, all_rows in by_op(rows).items():
        if op in APART and op not in WITHOUT_BARS:
            continue
        section = f"## {op}\n\n{op_table(all_rows)}\n"
        for device in () if op in WITHOUT_BARS else DEVICES:
            name = f"{op}.png" if device == "cpu" else f"{op}_{device}.png"
            if plots.bars(op, [row for row in all_rows if row["device"] == device], folder / name):
                section += f"\n![{op}]({name})\n"
        sections.append(section)
    for device in DEVICES:
        here = [row for row in rows if row["device"] == device]
        scaling, roofs, gains = (f"{name}_{device}.png" for name in ("scaling", "roofline", "peers"))
        if plots.gains([r for r in here if r["op"] == "peers"], folder / gains):
            sections.append(f"## Gains of other GANs\n\n![gains]({gains})\n")
        if plots.scaling([r for r in here if r["op"] == "generator_scaling"], folder / scaling):
            sections.append(f"## Scaling of the generator\n\n![scaling]({scaling})\n")
        if roofline.plot(here, [r for r in here if r["op"] == "ceiling"], folder / roofs):
            sections.append(f"## Roofline\n\n![roofline]({roofs})\n")
    sections.append(f"## Training step\n\n{training(rows)}\n")
    text = "# Measured\n\nWritten by `benchmarks/report.py`.\n\n" + "\n".join(sections)
    (folder / "README.md").write_text(text)


def fill(page: Path, texts: Mapping[str, str]) -> None:
    """Replaces what stands between the marks of these names on a page; a page need not have them all."""
    text = page.read_text()
    for name, summary in texts.items():
        pattern = re.compile(rf"(<!-- report: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        parts = pattern.split(text)  # before, opening mark, closing mark, after; or the whole text alone
        text = f"{parts[0]}{parts[1]}{summary}\n{''.join(parts[2:])}" if len(parts) > 1 else text
    page.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the rows; tables go beside them")
    parser.add_argument("--pages", type=Path, nargs="*", default=PAGES, help="pages with marks for the summaries")
    args = parser.parse_args()
    rows = read(args.results)
    write_results(rows, args.results)
    for page in args.pages:
        fill(page, {name: summary(rows) for name, summary in SUMMARIES.items()})
    print(args.results / "README.md", *args.pages)


if __name__ == "__main__":
    main()
