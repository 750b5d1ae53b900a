"""Features of points from a feature volume (VolumeGAN, arXiv 2112.10759), trilinear.

    feature = trilinear(volume, point * point_scale)

volume [B,C,D,H,W], points [B,N,3], x along W, y along H, z along D. Read as by F.grid_sample(mode="bilinear") of a
5-dimensional input. Gradients: both, first and second order. Under autocast it computes and returns float32, as
F.grid_sample does.
"""

from __future__ import annotations

from torch import Tensor

from .. import reference
from ._autocast import autocast_to_float32
from ._checks import check_choice, check_shape, check_tensors
from ._grids import PADDINGS, check_texels, with_points_in_computing_type
from ._registry import OpSpec, call, register

_ARGUMENTS = "Tensor volume, Tensor points, float point_scale, bool align_corners, str padding"
SCHEMA = f"sample_volume({_ARGUMENTS}) -> Tensor"
SCHEMA_BACKWARD = (
    f"sample_volume_backward(Tensor grad, {_ARGUMENTS}, int grad_mask) -> (Tensor grad_volume, Tensor grad_points)"
)


def _check(volume: Tensor, points: Tensor, padding: str) -> None:
    check_choice("sample_volume", "padding", padding, PADDINGS)
    check_shape("sample_volume", "volume", volume, "[B,C,D,H,W]", None, None, None, None, None)
    check_texels("sample_volume", "volume", volume.shape[2:])
    check_shape("sample_volume", "points", points, "[B,N,3]", volume.shape[0], None, 3)


def _fake(volume: Tensor, points: Tensor, point_scale: float, align_corners: bool, padding: str) -> Tensor:
    _check(volume, points, padding)
    return volume.new_empty((volume.shape[0], points.shape[1], volume.shape[1]))


register(
    OpSpec(
        name="sample_volume",
        schema=SCHEMA,
        backward_schema=SCHEMA_BACKWARD,
        reference=reference.sample_volume,
        reference_backward=reference.sample_volume_backward,
        fake=_fake,
        grad_of=((0,), (1,)),
    )
)


def sample_volume(
    volume: Tensor,
    points: Tensor,
    *,
    point_scale: float = 1.0,
    align_corners: bool = False,
    padding: str = "zeros",
    impl: str = "auto",
) -> Tensor:
    """Features of points, trilinear in a volume.

    Args:
        volume: [B,C,D,H,W].
        points: [B,N,3]; times point_scale, -1 and 1 are the ends of the volume.
        align_corners: -1 and 1 are the centres of the first and last texel (VolumeGAN), else their outer edges.
        padding: outside there are "zeros", or the values of the "border" (VolumeGAN).
        impl: "auto" (native kernel if there is one), "fused" (native or RuntimeError), "reference".

    Returns: [B,N,C], contiguous, in the dtype of volume (float32 under autocast). float16 and bfloat16 volumes are
        computed in float32 and rounded once; points are taken in float32 at least.
    Raises: ValueError for wrong shapes or options, TypeError for dtypes, RuntimeError if impl="fused" is not possible.
    Note: gradients of points as in `sample_planes`.
    """
    check_tensors("sample_volume", volume=volume, points=points)
    volume, points = autocast_to_float32(volume, points)
    dtype = volume.dtype
    volume, points = with_points_in_computing_type(volume, points)
    _check(volume, points, padding)
    features: Tensor = call("sample_volume", impl, (volume, points), (float(point_scale), align_corners, padding))
    return features.to(dtype)
