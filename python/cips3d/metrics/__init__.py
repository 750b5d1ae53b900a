"""Numbers that say how good a trained generator is; each `measure_*` takes a `TrainedModel`."""

from cips3d.metrics.distances import Distances, measure_distances, measure_small_distance
from cips3d.metrics.geometry import Geometry, measure_geometry
from cips3d.metrics.identity import Identity, measure_head_identity, measure_identity
from cips3d.metrics.mirror import MirrorSymmetry, measure_mirror_symmetry
from cips3d.metrics.pose import PoseReport, measure_pose_control
from cips3d.metrics.reprojection import Reprojection, measure_reprojection
from cips3d.metrics.throughput import Throughput, measure_throughput

__all__ = [
    "Distances",
    "Geometry",
    "Identity",
    "MirrorSymmetry",
    "PoseReport",
    "Reprojection",
    "Throughput",
    "measure_distances",
    "measure_geometry",
    "measure_head_identity",
    "measure_identity",
    "measure_mirror_symmetry",
    "measure_pose_control",
    "measure_reprojection",
    "measure_small_distance",
    "measure_throughput",
]
