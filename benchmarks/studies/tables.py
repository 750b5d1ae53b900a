"""The studies' tables and plots, from results.jsonl alone, into README.md of this folder.

python benchmarks/studies/tables.py
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from measure import HERE, rows
from subjects import Subject
from variants import SUBJECTS

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from report import fill, markdown

matplotlib.use("Agg")
from matplotlib import pyplot

# name of a number -> title, digits, and whether less is better
NUMBERS = {
    "fd_small": ("fd_small (INR) ↓", 2, True),
    "fd_small_nerf": ("fd_small (NeRF) ↓", 2, True),
    "yaw": ("yaw correlation ↑", 3, False),
    "yaw_error_deg": ("yaw error, deg ↓", 1, True),
    "mirror": ("mirror symmetry ↓", 3, True),
    "flips": ("pairs that flip ↓", 2, True),
    "reprojection": ("reprojection error ↓", 3, True),
}
ABSENT = "not run"
FEWEST_SEEDS = 2  # of an ordering: of one seed each everything is ordered


def of(variant: str, all_rows: Sequence[dict]) -> list[dict]:
    """The rows of a variant, by seed."""
    return sorted((row for row in all_rows if row["variant"] == variant), key=lambda row: row["seed"])


def table(variants: Sequence[str], all_rows: Sequence[dict]) -> str:
    """A line a variant; each cell has the seeds' values."""
    lines = []
    for variant in variants:
        mine = of(variant, all_rows)
        cells = [" / ".join(f"{row[name]:.{digits}f}" for row in mine) for name, (_, digits, _) in NUMBERS.items()]
        lines.append([variant, *(cells if mine else [ABSENT] * len(NUMBERS))])
    return markdown(["run", *(title for title, _, _ in NUMBERS.values())], lines)


def orderings(base_name: str, variants: Sequence[str], all_rows: Sequence[dict]) -> str:
    """Where every seed of the base beats every seed of a variant, or loses to it; all else is no ordering."""
    base, sentences = of(base_name, all_rows), []
    for variant in variants:
        mine = of(variant, all_rows)
        enough = min(len(mine), len(base)) >= FEWEST_SEEDS
        better, worse = [], []
        for name, (title, _, less) in NUMBERS.items() if enough else ():
            ours, theirs = ([row[name] * (1 if less else -1) for row in group] for group in (base, mine))
            if max(ours) < min(theirs):
                better.append(title[:-2])
            elif min(ours) > max(theirs):
                worse.append(title[:-2])
        if enough:
            said = [f"the base is better in {', '.join(better)}"] if better else []
            said += [f"worse in {', '.join(worse)}"] if worse else []
            sentences.append(f"- {variant}: {'; '.join(said) if said else 'no number is ordered'} (in all seeds).")
    return "\n".join(sentences)


def pictures(variants: Sequence[str]) -> str:
    """The committed pictures of the first seed."""
    there = [v for v in variants if (HERE / "pictures" / f"{v}-seed0.png").exists()]
    return markdown(there, [[f"![{v}](pictures/{v}-seed0.png)" for v in there]]) if there else ""


def bars(subject: Subject, all_rows: Sequence[dict], out: Path) -> None:
    """One panel a number: the mean of the seeds as a bar, each seed as a point."""
    there = [v for v in subject.variants if of(v, all_rows)]
    figure, panels = pyplot.subplots(
        1, len(NUMBERS), figsize=(2.2 * len(NUMBERS), 0.5 + 0.35 * len(there)), sharey=True
    )
    for panel, (name, (title, _, _)) in zip(panels, NUMBERS.items(), strict=True):
        values = [[row[name] for row in of(v, all_rows)] for v in there]
        panel.barh(there, [statistics.mean(group) for group in values], color="lightsteelblue")
        for place, group in enumerate(values):
            panel.plot(group, [place] * len(group), "k.", markersize=4)
        panel.set_title(title, fontsize=8)
        panel.tick_params(labelsize=7)
    panels[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(out, dpi=90)
    pyplot.close(figure)


def main() -> None:
    all_rows = rows()
    texts = {}
    for model, subject in SUBJECTS.items():
        for name, study in subject.studies.items():
            variants = (subject.base, *study.variants)
            compared = orderings(subject.base, study.variants, all_rows)
            parts = table(variants, all_rows), compared, pictures(variants)
            texts[name] = "\n\n".join(part for part in parts if part)
        if any(of(variant, all_rows) for variant in subject.variants):
            bars(subject, all_rows, HERE / f"results{'' if model == 'cips3d' else f'-{model}'}.png")
    fill(HERE / "README.md", texts)
    print(HERE / "README.md")


if __name__ == "__main__":
    main()
