"""Features of points from a feature volume, trilinear.

Source: VolumeGAN (arXiv 2112.10759) `interpolate_feature`, StyleNeRF and pi-GAN's grids. Axes: B batch, C channels,
N points.
"""

from torch import Tensor

from ._gradients import ALL_GRADIENTS, select_gradients
from ._interpolation import interpolate, interpolate_backward
from ._precision import widen


def sample_volume(
    volume: Tensor, points: Tensor, *, point_scale: float = 1.0, align_corners: bool = False, padding: str = "zeros"
) -> Tensor:
    """volume [B,C,D,H,W] at points [B,N,3], x along W, y along H, z along D -> [B,N,C] in the dtype of volume.

    The points, times point_scale, are in the type that the volume is computed in; padding is "zeros" or "border".
    """
    return interpolate(widen(volume), points * point_scale, align_corners, padding).to(volume.dtype)


def sample_volume_backward(
    grad: Tensor,
    volume: Tensor,
    points: Tensor,
    *,
    point_scale: float = 1.0,
    align_corners: bool = False,
    padding: str = "zeros",
    grad_mask: int = ALL_GRADIENTS,
) -> tuple[Tensor | None, ...]:
    """Gradients of volume and points from grad [B,N,C]."""
    wanted = (bool(grad_mask & 1), bool(grad_mask & 2))
    grad_volume, grad_points = interpolate_backward(
        widen(grad), widen(volume), points * point_scale, align_corners, padding, wanted
    )
    scaled = None if grad_points is None else point_scale * grad_points
    return select_gradients((grad_volume, scaled), (volume, points), grad_mask)
