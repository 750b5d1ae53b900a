"""Features of points from axis-aligned feature planes: bilinear on each plane, then their mean or sum.

Source: EG3D (arXiv 2112.07945) `sample_from_planes` and the mean of its decoder; its published axes are xy, xz, zx.
Axes: B batch, P planes, C channels, N points.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ._gradients import ALL_GRADIENTS, select_gradients
from ._interpolation import interpolate, interpolate_backward
from ._precision import widen


def sample_planes(
    planes: Tensor,
    points: Tensor,
    *,
    axes: Sequence[int],
    point_scale: float = 1.0,
    align_corners: bool = False,
    padding: str = "zeros",
    reduce: str = "mean",
) -> Tensor:
    """planes [B,P,C,H,W] at points [B,N,3] -> [B,N,C], or [B,P,N,C] with reduce "none", in the dtype of planes.

    axes holds two coordinates of a point for each plane: axes[2p] runs along W, axes[2p+1] along H. The points, times
    point_scale, are in the type that planes are computed in; padding is "zeros" or "border".
    """
    B, P = planes.shape[:2]
    on_planes = _project(points, axes, point_scale)
    features = interpolate(widen(planes).flatten(0, 1), on_planes, align_corners, padding).unflatten(0, (B, P))
    if reduce != "none":
        features = features.mean(1) if reduce == "mean" else features.sum(1)
    return features.to(planes.dtype)


def sample_planes_backward(
    grad: Tensor,
    planes: Tensor,
    points: Tensor,
    *,
    axes: Sequence[int],
    point_scale: float = 1.0,
    align_corners: bool = False,
    padding: str = "zeros",
    reduce: str = "mean",
    grad_mask: int = ALL_GRADIENTS,
) -> tuple[Tensor | None, ...]:
    """Gradients of planes and points from grad [B,N,C] or [B,P,N,C]."""
    B, P = planes.shape[:2]
    grad = widen(grad)
    if reduce != "none":
        grad = (grad / P if reduce == "mean" else grad)[:, None].expand(-1, P, -1, -1)
    grad_planes, grad_on_planes = interpolate_backward(
        grad.flatten(0, 1),
        widen(planes).flatten(0, 1),
        _project(points, axes, point_scale),
        align_corners,
        padding,
        (bool(grad_mask & 1), bool(grad_mask & 2)),
    )
    grad_points = None
    if grad_on_planes is not None:
        of_axes = grad_on_planes.unflatten(0, (B, P)).transpose(1, 2).flatten(2)  # [B,N,2P], as axes has them
        of_coordinates = [torch.zeros_like(points[..., 0]) for _ in range(3)]
        for axis, of_axis in zip(axes, of_axes.unbind(-1), strict=True):
            of_coordinates[axis] = of_coordinates[axis] + of_axis
        grad_points = point_scale * torch.stack(of_coordinates, -1)
    if grad_planes is not None:
        grad_planes = grad_planes.unflatten(0, (B, P))
    return select_gradients((grad_planes, grad_points), (planes, points), grad_mask)


def _project(points: Tensor, axes: Sequence[int], point_scale: float) -> Tensor:
    """Each point on each plane [B*P,N,2]."""
    coordinates = (points * point_scale).unbind(-1)
    on_planes = torch.stack([coordinates[axis] for axis in axes], -1).unflatten(2, (-1, 2))
    return on_planes.transpose(1, 2).flatten(0, 1)
