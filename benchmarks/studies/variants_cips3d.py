"""What the CIPS-3D paper (arXiv 2110.09788) compares."""

from __future__ import annotations

from subjects import Study, Subject

# As many pixels seen as the base's 900 steps at 16 x 16 and 250 at 32 x 32.
DIRECT_STEPS = 900 // 4 + 250

SUBJECT = Subject(
    preset="study",
    variants={
        "base": [],
        "no-aux": ["loss.use_aux=false"],
        "view-directions": ["generator.view_directions=true"],
        "fixed-encoding": ["generator.positional_encoding=fixed"],
        "rays-64": ["render.grad_rays=64"],
        "rays-256": ["render.grad_rays=256"],
        "direct": [f"schedule.steps={DIRECT_STEPS}", "schedule.stages=[{resolution: 32}]"],
    },
    studies={
        "table2": Study(
            "Table 2: the field's inputs and the auxiliary discriminator",
            "Without view directions, with a learnable encoding and with the auxiliary discriminator pictures are "
            "better and free of mirror symmetry.",
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
    },
)
