"""StyleNeRF's renderer (training/stylenerf.py, dnnlib/camera.py): volume weights and queries of planes and volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..ops.sample_planes import sample_planes
from ..ops.sample_volume import sample_volume
from ._covers import dense
from ._samples import INFINITE_DELTA, ray_weights, require

_PLANE_AXES = ((0, 1), (0, 2), (1, 2))  # xy, xz, yz


def calc_volume_weights(
    sigma: Tensor,
    z_vals: Tensor | None = None,
    ray_vector: Tensor | None = None,
    dists: Tensor | None = None,
    last_dist: float = INFINITE_DELTA,
) -> tuple[Tensor, Tensor, Tensor]:
    """sigma, z_vals [B,R,S], ray_vector [B,R,3] -> weights [B,R,S], transmittance before the last sample [B,R], dists.

    |ray| multiplies the intervals but not the appended one; with last_dist > 0 the last sample is opaque.
    """
    require(dists is None and z_vals is not None, "needs z_vals, not dists")
    assert z_vals is not None
    options: dict[str, Any] = {"last_delta": last_dist, "norm_last": False}
    out = ray_weights(sigma, z_vals, ray_vector, **options, last_alpha=1.0 if last_dist > 0 else None)
    intervals = z_vals.diff(dim=-1)
    if ray_vector is not None:
        intervals = intervals * ray_vector.norm(dim=-1, keepdim=True)
    last = torch.full_like(intervals[..., :1], last_dist)
    return out.weights, out.transmittance, torch.cat([intervals, last], -1)


def query_features(points: Tensor, input_feats: Sequence[Any], bound: float) -> Tensor:
    """Features [B,N,C] of points [B,N,3] / bound: ('tri_plane', planes [B,3,C,H,W], ...) or ('volume', [B,C,D,H,W])."""
    kind, grid = input_feats[0], input_feats[1]
    require(kind in ("tri_plane", "volume"), f"{kind} is not sampled by an op")
    require(dense(points, grid) and points.dim() == 3, "needs dense floating-point tensors of one device")
    require(points.dtype == grid.dtype == torch.float32, "needs float32")
    x, y, z = (points / bound).unbind(-1)
    if kind == "volume":
        return sample_volume(grid, torch.stack([y, -z, x], -1))
    depth = -z if len(input_feats) == 4 else z  # with a density volume beside the planes the host turns z
    return sample_planes(grid[:, :3], torch.stack([x, y, depth], -1), axes=_PLANE_AXES, reduce="sum")


def query_input_features(
    self: Any, p_i: Tensor, input_feats: Sequence[Any], p_shape: Sequence[int], bound: float, grad_inputs: bool = False
) -> Tensor:
    """The method of NeRFInput: features of points [B,N,3], and behind them the points where it adds them."""
    require(self.keep_posenc <= 0, "an encoding of the points is added to the features")
    features = query_features(p_i, input_feats, bound)
    return features if self.keep_posenc < 0 else torch.cat([features, p_i / bound], -1)
