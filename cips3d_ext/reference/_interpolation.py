"""Linear interpolation between texels, in any number of axes: what sample_planes and sample_volume share.

Source: `torch.nn.functional.grid_sample` (bilinear, trilinear), whose every detail is kept. Axes: G grids, C channels,
N points, K = 2^d corners of the cell that a point falls into. Coordinates come in x, y (, z) order, which runs along
the last, the last but one ... axis of a grid.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def interpolate(values: Tensor, coordinates: Tensor, align_corners: bool, padding: str) -> Tensor:
    """values [G,C,*sizes] at coordinates [G,N,d], -1 and 1 being the ends of an axis -> [G,N,C]."""
    index, weights, _ = _corners(values.shape[2:], coordinates, align_corners, padding)
    rows = _rows(values)
    result = torch.zeros_like(rows[:1]).expand(index.shape[0], -1)
    for corner, weight in zip(index.unbind(-1), _products(weights), strict=True):
        result = result + weight.flatten()[:, None] * rows.index_select(0, corner)
    return result.reshape(*coordinates.shape[:2], values.shape[1])


def interpolate_backward(
    grad: Tensor, values: Tensor, coordinates: Tensor, align_corners: bool, padding: str, wanted: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of values and of coordinates, each None if not wanted, from grad [G,N,C]."""
    index, weights, slopes = _corners(values.shape[2:], coordinates, align_corners, padding)
    rows, grad = _rows(values), grad.flatten(0, 1)
    grad_values = grad_coordinates = None
    if wanted[0]:
        grad_rows = torch.zeros_like(rows)
        for corner, weight in zip(index.unbind(-1), _products(weights), strict=True):
            grad_rows = grad_rows.index_add(0, corner, weight.flatten()[:, None] * grad)
        grad_values = grad_rows.unflatten(0, (values.shape[0], *values.shape[2:])).movedim(-1, 1)
    if wanted[1]:
        projections = [(grad * rows.index_select(0, corner)).sum(-1) for corner in index.unbind(-1)]
        of_axes = []
        for axis, slope in enumerate(slopes):
            derived = _products([slope if a == axis else weight for a, weight in enumerate(weights)])
            of_axes.append(sum(d.flatten() * p for d, p in zip(derived, projections, strict=True)))
        grad_coordinates = torch.stack([a for a in of_axes if isinstance(a, Tensor)], -1).reshape(coordinates.shape)
    return grad_values, grad_coordinates


def _rows(values: Tensor) -> Tensor:
    """The texels of all grids as rows of channels [G*T,C]."""
    return values.flatten(2).transpose(1, 2).flatten(0, 1)


def _products(factors: Sequence[Tensor]) -> list[Tensor]:
    """Of the two numbers that each axis has [G,N,2], the product at every corner; the first axis changes fastest."""
    products = list(factors[0].unbind(-1))
    for factor in factors[1:]:
        products = [product * side for side in factor.unbind(-1) for product in products]
    return products


def _corners(
    sizes: Sequence[int], coordinates: Tensor, align_corners: bool, padding: str
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Which rows a point reads [G*N,K], and for each axis its two weights and their derivatives [G,N,2]."""
    grids, points = coordinates.shape[:2]
    weights, slopes = [], []
    offsets = [torch.zeros(grids, points, dtype=torch.int64, device=coordinates.device)]
    stride = 1
    for axis, size in enumerate(reversed(sizes)):
        index, weight, slope = _axis(coordinates[..., axis], size, align_corners, padding)
        weights.append(weight)
        slopes.append(slope)
        offsets = [offset + side * stride for side in index.unbind(-1) for offset in offsets]
        stride *= size
    first = torch.arange(grids, device=coordinates.device)[:, None, None] * stride
    return (torch.stack(offsets, -1) + first).flatten(0, 1), weights, slopes


def _axis(coordinate: Tensor, size: int, align_corners: bool, padding: str) -> tuple[Tensor, Tensor, Tensor]:
    """Along one axis: the texels below and above [...,2], their weights, and the weights' derivatives.

    -1 and 1 are the centres of the first and last texel with align_corners, else their outer edges. A texel outside
    has no weight. Border padding moves a point to the nearest texel first, with derivative 0, also on the very edge.
    """
    scale = (size - 1) / 2 if align_corners else size / 2
    position = (coordinate + 1) * scale - (0.0 if align_corners else 0.5)
    slope = torch.full_like(position, scale)
    if padding == "border":
        inside = (position > 0) & (position < size - 1)
        slope = torch.where(inside, slope, 0.0)
        position = torch.where(inside, position, position.detach().clamp(0, size - 1))
    below = position.detach().floor()
    index = torch.stack([below, below + 1], -1)
    outside = (index < 0) | (index > size - 1)
    upper = position - below
    weight = torch.where(outside, 0.0, torch.stack([1 - upper, upper], -1))
    readable = torch.where(outside | index.isnan(), 0.0, index).to(torch.int64)
    return readable, weight, torch.where(outside, 0.0, torch.stack([-slope, slope], -1))
