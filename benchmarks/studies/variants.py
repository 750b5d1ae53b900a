"""The study's training runs: what the CIPS-3D paper (arXiv 2110.09788) compares, as changes to the preset `study`."""

from __future__ import annotations

from dataclasses import dataclass

PRESET = "study"
BASE = "base"
# As many pixels seen as the base's 900 steps at 16 x 16 and 250 at 32 x 32.
DIRECT_STEPS = 900 // 4 + 250


@dataclass(frozen=True)
class Study:
    """One of the paper's comparisons: its claim, and variants by name; the base belongs to every study."""

    title: str
    claim: str
    variants: tuple[str, ...]


VARIANTS: dict[str, list[str]] = {
    BASE: [],
    "no-aux": ["loss.use_aux=false"],
    "view-directions": ["generator.view_directions=true"],
    "fixed-encoding": ["generator.positional_encoding=fixed"],
    "rays-64": ["render.grad_rays=64"],
    "rays-256": ["render.grad_rays=256"],
    "direct": [f"schedule.steps={DIRECT_STEPS}", "schedule.stages=[{resolution: 32}]"],
}

STUDIES = {
    "table2": Study(
        "Table 2: the field's inputs and the auxiliary discriminator",
        "Without view directions, with a learnable encoding and with the auxiliary discriminator pictures are better "
        "and free of mirror symmetry.",
        ("no-aux", "view-directions", "fixed-encoding"),
    ),
    "rays": Study(
        "Figure 12: rays with gradient",
        "Few rays with gradient train as well as all of them, at less memory.",
        ("rays-64", "rays-256"),
    ),
    "growth": Study(
        "Figure 8: progressive growth",
        "Beginning at a lower resolution is better than training at the last one from the start.",
        ("direct",),
    ),
}
