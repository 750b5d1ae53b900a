"""Features of points from axis-aligned feature planes (EG3D's tri-planes, arXiv 2112.07945), all planes in one op.

    feature = mean_p bilinear(planes_p, point[axes_p] * point_scale)          (or their sum, or all of them)

planes [B,P,C,H,W], points [B,N,3]. Each plane is read as by F.grid_sample(mode="bilinear"). Gradients: both, first and
second order. Under autocast it computes and returns float32, as F.grid_sample does.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .. import reference
from ._autocast import autocast_to_float32
from ._checks import check_choice, check_shape, check_tensors
from ._grids import PADDINGS, check_texels, with_points_in_computing_type
from ._registry import OpSpec, call, register

REDUCTIONS = ("mean", "sum", "none")
EG3D_AXES = ((0, 1), (0, 2), (2, 0))  # xy, xz, zx: what its published networks were trained with
_ARGUMENTS = "Tensor planes, Tensor points, int[] axes, float point_scale, bool align_corners, str padding, str reduce"
SCHEMA = f"sample_planes({_ARGUMENTS}) -> Tensor"
SCHEMA_BACKWARD = (
    f"sample_planes_backward(Tensor grad, {_ARGUMENTS}, int grad_mask) -> (Tensor grad_planes, Tensor grad_points)"
)


def _check(planes: Tensor, points: Tensor, axes: Sequence[int], padding: str, reduce: str) -> None:
    check_choice("sample_planes", "padding", padding, PADDINGS)
    check_choice("sample_planes", "reduce", reduce, REDUCTIONS)
    check_shape("sample_planes", "planes", planes, "[B,P,C,H,W]", None, None, None, None, None)
    check_texels("sample_planes", "planes", planes.shape[3:])
    if len(axes) != 2 * planes.shape[1] or not planes.shape[1]:
        raise ValueError(
            f"sample_planes: axes must hold one pair (along W, along H) for each plane, {planes.shape[1]}, and at "
            f"least one, got {len(axes) // 2}"
        )
    check_shape("sample_planes", "points", points, "[B,N,3]", planes.shape[0], None, 3)


def _fake(
    planes: Tensor,
    points: Tensor,
    axes: Sequence[int],
    point_scale: float,
    align_corners: bool,
    padding: str,
    reduce: str,
) -> Tensor:
    _check(planes, points, axes, padding, reduce)
    B, P, C = planes.shape[:3]
    N = points.shape[1]
    return planes.new_empty((B, P, N, C) if reduce == "none" else (B, N, C))


register(
    OpSpec(
        name="sample_planes",
        schema=SCHEMA,
        backward_schema=SCHEMA_BACKWARD,
        reference=reference.sample_planes,
        reference_backward=reference.sample_planes_backward,
        fake=_fake,
        grad_of=((0,), (1,)),
    )
)


def sample_planes(
    planes: Tensor,
    points: Tensor,
    *,
    axes: Sequence[tuple[int, int]] = EG3D_AXES,
    point_scale: float = 1.0,
    align_corners: bool = False,
    padding: str = "zeros",
    reduce: str = "mean",
    impl: str = "auto",
) -> Tensor:
    """Features of points, bilinear on each of P planes.

    Args:
        planes: [B,P,C,H,W].
        points: [B,N,3]; times point_scale, -1 and 1 are the ends of the planes. EG3D: point_scale = 2 / box_warp.
        axes: for each plane the coordinates (0, 1, 2) of a point that run along W and along H.
        align_corners: -1 and 1 are the centres of the first and last texel, else their outer edges.
        padding: outside there are "zeros", or the values of the "border".
        reduce: over the planes: "mean", "sum" or "none".
        impl: "auto" (native kernel if there is one), "fused" (native or RuntimeError), "reference".

    Returns: [B,N,C], or [B,P,N,C] with reduce "none", contiguous, in the dtype of planes (float32 under autocast).
        float16 and bfloat16 planes are computed in float32 and rounded once; points are taken in float32 at least, so
        that they may and should be given in float32 beside half-precision planes.
    Raises: ValueError for wrong shapes or options, TypeError for dtypes, RuntimeError if impl="fused" is not possible.
    Note: a point's gradient is that of the cell it lies in, and 0 along an axis where border padding holds it, as
        F.grid_sample has it. A coordinate that is NaN gives NaN.
    """
    check_tensors("sample_planes", planes=planes, points=points)
    flat = [int(axis) for pair in axes for axis in pair]
    if len(flat) != 2 * len(axes) or not set(flat) <= {0, 1, 2}:
        raise ValueError(f"sample_planes: axes must be pairs of the coordinates 0, 1 and 2, got {axes!r}")
    planes, points = autocast_to_float32(planes, points)
    dtype = planes.dtype
    planes, points = with_points_in_computing_type(planes, points)
    _check(planes, points, flat, padding, reduce)
    options = (flat, float(point_scale), align_corners, padding, reduce)
    features: Tensor = call("sample_planes", impl, (planes, points), options)
    return features.to(dtype)
