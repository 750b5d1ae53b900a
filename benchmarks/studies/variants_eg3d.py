"""What the EG3D paper (arXiv 2112.07945) compares."""

from __future__ import annotations

from subjects import Study, Subject

SUBJECT = Subject(
    preset="eg3d_study",
    variants={
        "eg3d": [],
        "single-discrimination": ["discriminator.dual=false"],
        "no-pose-conditioning": ["generator.pose_conditioned=false"],
    },
    studies={
        "eg3d-table2": Study(
            "EG3D, table 2 and figure 5: dual discrimination and generator pose conditioning",
            "With dual discrimination the image agrees with the raw one and keeps its detail as it turns; with pose "
            "conditioning pictures are better because poses and looks go together in the data.",
            ("single-discrimination", "no-pose-conditioning"),
        ),
    },
)
