"""What the VolumeGAN paper (arXiv 2112.10759) compares."""

from __future__ import annotations

from subjects import Study, Subject

SUBJECT = Subject(
    preset="volumegan_study",
    variants={
        "volumegan": [],
        "no-volume": ["generator.volume_channels=0"],
        "volume-4": ["generator.volume_side=4"],
        "volume-16": ["generator.volume_side=16"],
        "renderer-1": ["generator.renderer_layers=1"],
        "renderer-4": ["generator.renderer_layers=4"],
    },
    studies={
        "volumegan-volume": Study(
            "VolumeGAN: the feature volume and its resolution",
            "With the volume pictures are better and keep their shape as they turn, the more so the finer it is.",
            ("no-volume", "volume-4", "volume-16"),
        ),
        "volumegan-renderer": Study(
            "VolumeGAN: depth of the neural renderer",
            "A deeper renderer makes better pictures that agree less from view to view.",
            ("renderer-1", "renderer-4"),
        ),
    },
)
