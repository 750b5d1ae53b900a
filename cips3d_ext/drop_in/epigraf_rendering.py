"""EpiGRAF's renderer (src/training/rendering.py, networks_epigraf.py): integration with its options, tri-planes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..ops.sample_planes import sample_planes
from ._averages import only_averages
from ._covers import dense
from ._samples import INFINITE_DELTA, filled, integrate, require, require_samples

_CLAMP_MODES = ("relu", "softplus")
_SHORT_DELTA = 1e-3  # the last interval where something is behind the field
_PLANES = 3
_PLANE_AXES = ((0, 1), (0, 2), (1, 2))  # xy, xz, yz


def fancy_integration(
    rgb_sigma: Tensor,
    z_vals: Tensor,
    noise_std: float = 0.5,
    last_back: bool = False,
    white_back_end_idx: int = 0,
    clamp_mode: str | None = None,
    fill_mode: str | None = None,
    sp_beta: float = 1.0,
    use_inf_depth: bool = True,
    density_shift: float = 0.0,
) -> dict[str, Tensor]:
    """rgb_sigma [B,R,S,C+1], z_vals [B,R,S,1] -> rendered_feats [B,R,C], depth, weights, final_transmittance [B,R].

    Noise is drawn only for noise_std > 0. The first white_back_end_idx channels have white behind them.
    """
    rgb, sigma = rgb_sigma[..., :-1], rgb_sigma[..., -1:]
    require(clamp_mode in _CLAMP_MODES, f"clamp_mode must be one of {_CLAMP_MODES}, got {clamp_mode!r}")
    require(all(isinstance(v, (int, float)) for v in (sp_beta, density_shift)), "sp_beta, density_shift are no numbers")
    require(fill_mode != "debug" or rgb.shape[-1] > 0, "fill_mode 'debug' needs a channel")
    require_samples(sigma, rgb, z_vals)
    out = integrate(
        sigma,
        rgb,
        z_vals,
        noise=noise_std * torch.randn_like(sigma) if noise_std > 0 else None,
        activation=clamp_mode,
        beta=float(sp_beta),
        shift=float(density_shift),
        last_delta=INFINITE_DELTA if use_inf_depth else _SHORT_DELTA,
        last_back=bool(last_back),
        white_back=max(int(white_back_end_idx), 0),
    )
    assert out.feature is not None
    red = torch.zeros_like(out.feature[0, 0]) if fill_mode == "debug" else None
    if red is not None:
        red[0] = 1.0
    return {
        "rendered_feats": filled(out.feature, out.accumulation, fill_mode, red),
        "depth": out.depth.unsqueeze(-1),
        "weights": out.weights.unsqueeze(-1),
        "final_transmittance": out.transmittance,
    }


def tri_plane_renderer(
    x: Tensor, coords: Tensor, ray_d_world: Tensor, mlp: Callable[..., Tensor], scale: float = 1.0
) -> Tensor:
    """Planes x [B,3*F,H,W], coords [B,N,3] / scale in [-1,1] -> mlp(features [B,3,N,F], coords, ray_d_world).

    An mlp that takes of the features only their mean over the planes gets that mean, [B,1,N,F].
    """
    require(dense(x, coords) and x.dim() == 4 and coords.dim() == 3, "needs dense [B,3*F,H,W] and [B,N,3]")
    require(x.shape[1] % _PLANES == 0 and coords.shape[0] == x.shape[0], "needs three planes for each item")
    require(x.dtype == coords.dtype == torch.float32, "needs float32")
    planes, points = x.unflatten(1, (_PLANES, x.shape[1] // _PLANES)), coords / scale
    averaged = only_averages(mlp, _PLANES, planes.shape[2], _run_mlp)
    options: dict[str, Any] = {"axes": _PLANE_AXES, "align_corners": True}
    features = sample_planes(planes, points, **options, reduce="mean" if averaged else "none")
    return mlp(features.unsqueeze(1) if averaged else features, points, ray_d_world)


def _run_mlp(mlp: nn.Module, features: Tensor, points: Tensor) -> Any:
    return mlp.forward(features, points, points)
