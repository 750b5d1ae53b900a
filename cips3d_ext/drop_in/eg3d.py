"""EG3D's renderer (training/volumetric_rendering): ray marcher, importance sampling, tri-plane sampling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from ..ops.merge_samples import merge_samples
from ..ops.sample_planes import sample_planes
from ._covers import dense
from ._samples import importance_depths, integrate, require, require_samples

Axes = tuple[tuple[int, int], ...]

_SHIFT = -1.0  # of the density before its softplus
_RGB_SCALE, _RGB_SHIFT = 2.0, -1.0  # [0,1] -> [-1,1]
_axes: WeakIdKeyDictionary = WeakIdKeyDictionary()  # a renderer's plane_axes -> (its version, what it says)


class MipRayMarcher2(nn.Module):
    """EG3D's ray marcher: midpoint rule, softplus(density - 1), colours in [-1,1], expected depth."""

    def run_forward(
        self, colors: Tensor, densities: Tensor, depths: Tensor, rendering_options: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As forward."""
        return march(colors, densities, depths, rendering_options)

    def forward(
        self, colors: Tensor, densities: Tensor, depths: Tensor, rendering_options: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """colors [B,R,S,C], densities, depths [B,R,S,1] -> rgb [B,R,C], depth [B,R,1], weights [B,R,S-1,1]."""
        return self.run_forward(colors, densities, depths, rendering_options)


def march(
    colors: Tensor, densities: Tensor, depths: Tensor, rendering_options: Mapping[str, Any]
) -> tuple[Tensor, Tensor, Tensor]:
    """MipRayMarcher2.run_forward. Depths are limited to the range of all depths of the batch, as in the host."""
    clamp_mode = rendering_options["clamp_mode"]
    require(clamp_mode == "softplus", f"clamp_mode must be 'softplus', got {clamp_mode!r}")
    require_samples(densities, colors, depths)
    require(depths.shape[2] > 1, "needs at least two samples a ray")
    out = integrate(
        densities,
        colors,
        depths,
        rule="midpoint",
        activation="softplus",
        shift=_SHIFT,
        white_back=bool(rendering_options.get("white_back", False)),
        depth="expected",
        feature_scale=_RGB_SCALE,
        feature_shift=_RGB_SHIFT,
    )
    assert out.feature is not None
    return out.feature, out.depth.unsqueeze(-1), out.weights.unsqueeze(-1)


def sample_pdf(bins: Tensor, weights: Tensor, N_importance: int, det: bool = False, eps: float = 1e-5) -> Tensor:
    """ImportanceRenderer.sample_pdf: bins [P,K], weights [P,W], K > W -> depths [P,N]; later bins are never sampled."""
    return importance_depths(bins, weights, N_importance, det, eps, right=True)


def unify_samples(
    depths1: Tensor, colors1: Tensor, densities1: Tensor, depths2: Tensor, colors2: Tensor, densities2: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """ImportanceRenderer.unify_samples: two sets of samples [B,R,S,.] in order of depth: depths, colors, densities."""
    require(dense(depths1, colors1, densities1, depths2, colors2, densities2), "needs dense tensors of one device")
    require(depths1.dim() == 4 and depths1.shape[-1] == depths2.shape[-1] == 1, "depths must be [B,R,S,1]")
    require(depths1.shape[:2] == depths2.shape[:2], "both sets need the same rays")
    pairs = (colors1, colors2), (densities1, densities2)
    for a, b in ((depths1, depths2), *pairs):
        require(a.dtype == b.dtype and a.shape[3:] == b.shape[3:], "both sets need one dtype and width")
    require(colors1.shape[:3] == densities1.shape[:3] == depths1.shape[:3], "colors1 and densities1 must fit depths1")
    require(colors2.shape[:3] == densities2.shape[:3] == depths2.shape[:3], "colors2 and densities2 must fit depths2")
    depths, colors, densities = merge_samples(depths1.squeeze(-1), depths2.squeeze(-1), *pairs)
    return depths.unsqueeze(-1), colors, densities


def sample_from_planes(
    plane_axes: Tensor,
    plane_features: Tensor,
    coordinates: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    box_warp: float | None = None,
    *,
    mean: bool = False,
) -> Tensor:
    """plane_axes [P,3,3], plane_features [B,P,C,H,W], coordinates [B,N,3] in a box of side box_warp -> [B,P,N,C].

    mean (not the host's): for a decoder that takes of the planes only their mean, that mean, [B,1,N,C].
    """
    require(mode == "bilinear", f"mode must be 'bilinear', got {mode!r}")
    require(padding_mode == "zeros", f"padding_mode must be 'zeros', got {padding_mode!r}")
    require(isinstance(box_warp, (int, float)), "box_warp must be a number")
    assert box_warp is not None
    require(dense(plane_features, coordinates), "needs dense floating-point tensors of one device")
    require(plane_features.dim() == 5 and coordinates.dim() == 3, "needs [B,P,C,H,W] and [B,N,3]")
    require(plane_features.dtype == coordinates.dtype == torch.float32, "needs float32")
    axes = axis_pairs(plane_axes)
    require(len(axes) == plane_features.shape[1], "plane_axes must be permutations of the axes, one for each plane")
    options: dict[str, Any] = {"axes": axes, "point_scale": 2 / box_warp}
    if mean:
        return sample_planes(plane_features, coordinates, **options).unsqueeze(1)
    return sample_planes(plane_features, coordinates, **options, reduce="none")


def axis_pairs(plane_axes: Tensor) -> Axes:
    """For each plane the coordinates of a point that run along its W and H; () where they are no coordinates.

    The host takes the first two columns of coordinates @ inverse(plane_axes). Read once for each tensor: it may live
    on a GPU.
    """
    known = _axes.get(plane_axes)
    if known is None or known[0] != plane_axes._version:
        known = (plane_axes._version, _read_axes(plane_axes))
        _axes[plane_axes] = known
    return known[1]


def _read_axes(plane_axes: Tensor) -> Axes:
    matrices = plane_axes.detach().to("cpu", torch.float64)
    if matrices.dim() != 3 or matrices.shape[1:] != (3, 3) or bool((torch.linalg.det(matrices) == 0).any()):
        return ()
    columns = torch.linalg.inv(matrices)[..., :2]
    axes = columns.argmax(1)
    if not torch.equal(torch.nn.functional.one_hot(axes, 3).mT.to(columns), columns):
        return ()
    return tuple((int(u), int(v)) for u, v in axes.tolist())
