"""Numbers that say how good a trained generator is; each `measure_*` takes a `TrainedModel`."""

from cips3d.metrics.mirror import MirrorSymmetry, measure_mirror_symmetry
from cips3d.metrics.pose import PoseReport, measure_pose_control
from cips3d.metrics.reprojection import Reprojection, measure_reprojection

__all__ = [
    "MirrorSymmetry",
    "PoseReport",
    "Reprojection",
    "measure_mirror_symmetry",
    "measure_pose_control",
    "measure_reprojection",
]
