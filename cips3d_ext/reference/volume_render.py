"""Volume rendering: features, depth and weights of a ray from densities along it (emission-absorption, Max 1995; NeRF).

Source: the integrators of pi-GAN, CIPS-3D, EG3D, VolumeGAN, StyleNeRF, GIRAFFE, StyleSDF and EpiGRAF, which differ in
options only. Axes: B batch, R rays, S samples, C features; n intervals: S with the left rule, S - 1 with midpoint.

    u_i = density_i + noise_i + shift    sigma_i = activation(u_i)    x_i = sigma_i delta_i    (optical thickness)
    alpha_i = 1 - exp(-x_i)    T_i = prod_{j<i} (exp(-x_j) + trans_eps)    w_i = alpha_i T_i
"""

import torch
from torch import Tensor

from ._precision import widen

# A last interval at least this long stands for infinity: alpha is a step in the density, its gradient defined as 0.
INFINITE_DELTA = 1e9


def volume_render(
    density: Tensor,
    features: Tensor | None,
    depths: Tensor,
    noise: Tensor | None = None,
    beta: Tensor | None = None,
    ray_norm: Tensor | None = None,
    *,
    activation: str = "relu",
    shift: float = 0.0,
    beta_value: float = 1.0,
    rule: str = "left",
    last_delta: float = 1e10,
    far: float | None = None,
    unit_delta: bool = False,
    norm_last: bool = True,
    last_alpha: float | None = None,
    trans_eps: float = 1e-10,
    last_back: bool = False,
    white_channels: int = 0,
    depth_mode: str = "sum",
    feature_scale: float = 1.0,
    feature_shift: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Feature [B,R,C], depth [B,R], weights [B,R,n], transmittance [B,R], accumulation [B,R] in the dtype of density.

    density, depths, noise [B,R,S]; features [B,R,S,C] (None gives a feature of 0 channels); beta one element, in place
    of beta_value; ray_norm [B,R] multiplies the intervals (without `norm_last` not the appended one). Lengths share one
    unit, densities are per that unit.

    activation      relu; softplus: log(1 + exp(beta u)) / beta; sdf: sigmoid(-u / beta) / beta; none
    rule            left: delta_i = z_{i+1} - z_i and an appended last interval, far - z_last or last_delta.
                    midpoint: densities (with noise, before the activation), features and depths are means of
                    neighbours, nothing is appended
    unit_delta      every interval is 1 long (times ray_norm)
    last_alpha      replaces alpha of the last interval
    last_back       the last weight takes what all leave: w_last += 1 - sum(w)
    white_channels  white behind the first k channels (-1: all): + 1 - accumulation; the affine map comes after it
    depth_mode      sum: sum(w z); expected: sum(w z) / sum(w), +inf where sum(w) = 0

    transmittance is T before the last interval; accumulation is sum(w) before last_back, which depth, weights and
    feature include. Where the appended interval is last_delta >= 1e9, its sigma is a constant to gradients.
    """
    mean = _neighbour_mean if rule == "midpoint" else _identity
    argument = mean(widen(density) if noise is None else widen(density) + widen(noise)) + shift
    sigma = _activate(argument, activation, _beta(beta, beta_value))
    if _appends_infinity(rule, last_delta, far, unit_delta):
        sigma = _hold_last(sigma)
    delta = _intervals(widen(depths), rule, last_delta, far, unit_delta)
    if ray_norm is not None:
        delta = delta * _norms(widen(ray_norm), delta, rule, norm_last)

    alpha, trans = _absorb(sigma * delta, last_alpha, trans_eps)
    weights = alpha * trans[..., : alpha.shape[-1]]
    accumulation = weights.sum(-1)
    if last_back:
        weights = _add_to_last(weights, 1 - accumulation)

    depth = (weights * mean(widen(depths))).sum(-1)
    if depth_mode == "expected":
        depth = _expected(depth, weights.sum(-1))
    if features is None:
        feature = density.new_empty(*density.shape[:2], 0)
    else:
        feature = torch.einsum("brs,brsc->brc", weights, mean(widen(features), 2))
        feature = feature + _white_mask(feature, white_channels) * (1 - accumulation).unsqueeze(-1)
        feature = feature_scale * feature + feature_shift
    feature, depth, weights, transmittance, accumulation = (
        output.to(density.dtype).contiguous() for output in (feature, depth, weights, trans[..., -1], accumulation)
    )
    return feature, depth, weights, transmittance, accumulation


def _identity(values: Tensor, axis: int = -1) -> Tensor:
    return values


def _neighbour_mean(values: Tensor, axis: int = -1) -> Tensor:
    """Mean of neighbours along `axis`: S values -> S - 1."""
    count = values.shape[axis] - 1
    return 0.5 * (values.narrow(axis, 0, count) + values.narrow(axis, 1, count))


def _appends_infinity(rule: str, last_delta: float, far: float | None, unit_delta: bool) -> bool:
    """Whether the last interval stands for infinity."""
    return rule == "left" and far is None and not unit_delta and last_delta >= INFINITE_DELTA


def _hold_last(sigma: Tensor) -> Tensor:
    """sigma with its last entry a constant to gradients."""
    return torch.cat([sigma[..., :-1], sigma[..., -1:].detach()], -1)


def _beta(beta: Tensor | None, beta_value: float) -> Tensor | float:
    return beta_value if beta is None else widen(beta).reshape(())


def _activate(argument: Tensor, activation: str, beta: Tensor | float) -> Tensor:
    """sigma of u."""
    if activation == "relu":
        return torch.relu(argument)
    if activation == "softplus":
        return torch.logaddexp(beta * argument, torch.zeros_like(argument)) / beta
    if activation == "sdf":
        return torch.sigmoid(-argument / beta) / beta
    if activation == "none":
        return argument
    raise ValueError(f"volume_render: activation must be relu, softplus, sdf or none, got {activation!r}")


def _intervals(depths: Tensor, rule: str, last_delta: float, far: float | None, unit_delta: bool) -> Tensor:
    """delta [B,R,n] before the ray norm."""
    delta = depths.diff(dim=-1)
    if rule == "left":
        last = depths[..., -1:]
        delta = torch.cat([delta, torch.full_like(last, last_delta) if far is None else far - last], -1)
    elif rule != "midpoint":
        raise ValueError(f"volume_render: rule must be left or midpoint, got {rule!r}")
    return torch.ones_like(delta) if unit_delta else delta


def _norms(ray_norm: Tensor, delta: Tensor, rule: str, norm_last: bool) -> Tensor:
    """What multiplies delta: ray_norm, and 1 for an appended interval without norm_last."""
    norms = ray_norm.unsqueeze(-1).expand_as(delta)
    if rule == "left" and not norm_last:
        norms = torch.cat([norms[..., :-1], torch.ones_like(norms[..., -1:])], -1)
    return norms


def _absorb(thickness: Tensor, last_alpha: float | None, trans_eps: float) -> tuple[Tensor, Tensor]:
    """alpha [B,R,n] and T [B,R,max(n,1)] of the optical thickness. expm1 keeps the small alphas' digits."""
    alpha = -torch.expm1(-thickness)
    if last_alpha is not None:
        alpha = torch.cat([alpha[..., :-1], torch.full_like(alpha[..., -1:], last_alpha)], -1)
    passed = torch.exp(-thickness[..., :-1]) + trans_eps
    first = thickness.new_ones(*thickness.shape[:-1], 1)
    return alpha, torch.cat([first, passed], -1).cumprod(-1)


def _add_to_last(weights: Tensor, rest: Tensor) -> Tensor:
    """weights with `rest` [B,R] added to the last interval, if there is one."""
    return torch.cat([weights[..., :-1], weights[..., -1:] + rest.unsqueeze(-1)], -1) if weights.shape[-1] else weights


def _expected(depth: Tensor, total: Tensor) -> Tensor:
    """depth / total; +inf, without a gradient, where nothing was hit."""
    empty = total == 0
    return torch.where(empty, torch.inf, depth / torch.where(empty, 1.0, total))


def _white_mask(feature: Tensor, white_channels: int) -> Tensor:
    """1 for the channels [C] with white behind them, 0 for the others."""
    channels = feature.shape[-1]
    count = channels if white_channels < 0 else white_channels
    return (torch.arange(channels, device=feature.device) < count).to(feature.dtype)
