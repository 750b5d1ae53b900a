"""Synthetic heads: who (parameters), what shape (sdf), what colour (shading, toon), seen how (render)."""

from cips3d.data.heads.parameters import HeadParameters, HeadPose, sample_parameters, sample_pose
from cips3d.data.heads.render import FOV_DEG, LOOKS, HeadImage, render_head, render_indexed

__all__ = [
    "FOV_DEG",
    "LOOKS",
    "HeadImage",
    "HeadParameters",
    "HeadPose",
    "render_head",
    "render_indexed",
    "sample_parameters",
    "sample_pose",
]
