"""Volume rendering: features, depth and weights of a ray from densities along it (emission-absorption, Max 1995; NeRF).

Source: the integrators of pi-GAN, CIPS-3D, EG3D, VolumeGAN, StyleNeRF, GIRAFFE, StyleSDF and EpiGRAF, which differ in
options only. Axes: B batch, R rays, S samples, C features; n intervals: S with the left rule, S - 1 with midpoint.

    u_i = density_i + noise_i + shift    sigma_i = activation(u_i)    x_i = sigma_i delta_i    (optical thickness)
    alpha_i = 1 - exp(-x_i)    T_i = prod_{j<i} (exp(-x_j) + trans_eps)    w_i = alpha_i T_i
    feature = scale * (sum_i w_i f_i + white) + shift    depth = sum_i w_i z_i    white = 1 - sum_i w_i
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._gradients import ALL_GRADIENTS, select_gradients
from ._precision import widen

# A last interval at least this long stands for infinity: alpha is a step in the density, its gradient defined as 0.
INFINITE_DELTA = 1e9
# Above this softplus(v) and v differ by less than half a unit in float64's last place.
SOFTPLUS_LINEAR = 40.0


class VolumeRenderOptions(NamedTuple):
    """The options of volume_render and their defaults."""

    activation: str = "relu"  # relu; softplus: log(1 + exp(beta u)) / beta; sdf: sigmoid(-u / beta) / beta; none
    shift: float = 0.0
    beta_value: float = 1.0  # beta where it is not given as a tensor
    # left: delta_i = z_{i+1} - z_i and an appended last interval, far - z_last or last_delta.
    # midpoint: densities (with noise, before the activation), features and depths are means of neighbours.
    rule: str = "left"
    last_delta: float = 1e10
    far: float | None = None
    unit_delta: bool = False  # every interval is 1 long (times ray_norm)
    norm_last: bool = True  # ray_norm multiplies the appended interval too
    last_alpha: float | None = None  # replaces alpha of the last interval
    trans_eps: float = 1e-10
    last_back: bool = False  # the last weight takes what all leave: w_last += 1 - sum(w)
    white_channels: int = 0  # how many of the first channels have white behind them, -1 for all
    depth_mode: str = "sum"  # sum: sum(w z); expected: sum(w z) / sum(w), +inf where sum(w) = 0
    feature_scale: float = 1.0
    feature_shift: float = 0.0


class _Ray(NamedTuple):  # without properties: torch.compile in 2.10 traces none of a NamedTuple
    """The intervals of every ray, [B,R,n] unless said otherwise."""

    argument: Tensor  # u
    sigma: Tensor
    intervals: Tensor  # before the ray norm
    norms: Tensor | None  # delta = intervals * norms
    depths: Tensor
    features: Tensor | None  # [B,R,n,C]
    alpha: Tensor
    passed: Tensor  # exp(-x)
    trans: Tensor  # T, [B,R,max(n,1)]
    weights: Tensor  # before last_back


def volume_render(
    density: Tensor,
    features: Tensor | None,
    depths: Tensor,
    noise: Tensor | None = None,
    beta: Tensor | None = None,
    ray_norm: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Feature [B,R,C], depth [B,R], weights [B,R,n], transmittance [B,R], accumulation [B,R] in the dtype of density.

    density, depths, noise [B,R,S]; features [B,R,S,C] (None gives a feature of 0 channels); beta one element, in place
    of beta_value; ray_norm [B,R] multiplies the intervals. Lengths share one unit, densities are per that unit.
    `options` are the fields of VolumeRenderOptions.

    transmittance is T before the last interval; accumulation is sum(w) before last_back, which depth, weights and
    feature include. Where the appended interval is last_delta >= 1e9, its sigma is a constant to gradients.
    """
    o = VolumeRenderOptions(**options)
    ray = _trace(density, features, depths, noise, beta, ray_norm, o)
    accumulation = ray.weights.sum(-1)
    weights = _give_rest_to_last(ray.weights) if o.last_back else ray.weights

    depth = (weights * ray.depths).sum(-1)
    if o.depth_mode == "expected":
        total = weights.sum(-1)
        depth = torch.where(total == 0, torch.inf, depth / torch.where(total == 0, 1.0, total))
    if ray.features is None:
        feature = density.new_empty(*density.shape[:2], 0)
    else:
        feature = torch.einsum("brs,brsc->brc", weights, ray.features)
        feature = feature + _white_mask(feature, o.white_channels) * (1 - accumulation).unsqueeze(-1)
        feature = o.feature_scale * feature + o.feature_shift
    # Copies: callers may write into the outputs, and autograd has kept the weights themselves.
    feature, depth, weights, transmittance, accumulation = (
        output.to(density.dtype, copy=True, memory_format=torch.contiguous_format)
        for output in (feature, depth, weights, ray.trans[..., -1], accumulation)
    )
    return feature, depth, weights, transmittance, accumulation


def volume_render_backward(
    grad_feature: Tensor | None,
    grad_depth: Tensor | None,
    grad_weights: Tensor | None,
    grad_transmittance: Tensor | None,
    grad_accumulation: Tensor | None,
    density: Tensor,
    features: Tensor | None,
    depths: Tensor,
    noise: Tensor | None = None,
    beta: Tensor | None = None,
    ray_norm: Tensor | None = None,
    *,
    grad_mask: int = ALL_GRADIENTS,
    **options: Any,
) -> tuple[Tensor | None, ...]:
    """Gradients of density (the noise's is the same), features, depths, beta and ray_norm.

    Arguments as in volume_render; a gradient of an output that is None counts as 0. Rays whose expected depth is
    infinite have no gradient through it.
    """
    o = VolumeRenderOptions(**options)
    ray = _trace(density, features, depths, noise, beta, ray_norm, o)
    grad_weights, grad_mean_depths, grad_mean_features = _weighting_backward(
        grad_feature, grad_depth, grad_weights, grad_accumulation, ray, o
    )
    grad_thickness = _absorb_backward(grad_weights, grad_transmittance, ray, o)
    grad_delta = grad_thickness * ray.sigma
    grad_sigma = grad_thickness * (ray.intervals if ray.norms is None else ray.intervals * ray.norms)
    if _appends_infinity(o):
        grad_sigma = _with_last(grad_sigma, 0.0)

    spread = _neighbour_mean_backward if o.rule == "midpoint" else _identity
    slope, beta_slope = _slopes(ray.argument, ray.sigma, o.activation, _beta(beta, o))
    grad_depths = spread(grad_mean_depths) + _intervals_backward(
        grad_delta if ray.norms is None else grad_delta * ray.norms, depths.shape[-1], o
    )
    grad_beta = grad_ray_norm = None
    if beta is not None:
        grad_beta = (grad_sigma * beta_slope).sum().reshape(beta.shape)
    if ray_norm is not None:
        grad_norms = grad_delta * ray.intervals
        grad_ray_norm = (_with_last(grad_norms, 0.0) if o.rule == "left" and not o.norm_last else grad_norms).sum(-1)
    gradients = (
        spread(grad_sigma * slope),
        None if grad_mean_features is None else spread(grad_mean_features, 2),
        grad_depths,
        grad_beta,
        grad_ray_norm,
    )
    return select_gradients(gradients, (density, features, depths, beta, ray_norm), grad_mask)


def _appends_infinity(o: VolumeRenderOptions) -> bool:
    """Whether the last interval stands for infinity."""
    return o.rule == "left" and not (o.far is not None or o.unit_delta or o.last_delta < INFINITE_DELTA)


def _trace(
    density: Tensor,
    features: Tensor | None,
    depths: Tensor,
    noise: Tensor | None,
    beta: Tensor | None,
    ray_norm: Tensor | None,
    o: VolumeRenderOptions,
) -> _Ray:
    """From the inputs to alpha and T."""
    if o.rule not in ("left", "midpoint"):
        raise ValueError(f"volume_render: rule must be left or midpoint, got {o.rule!r}")
    mean = _neighbour_mean if o.rule == "midpoint" else _identity
    argument = mean(widen(density) if noise is None else widen(density) + widen(noise)) + o.shift
    sigma = _activate(argument, o.activation, _beta(beta, o))
    if _appends_infinity(o):
        sigma = torch.cat([sigma[..., :-1], sigma[..., -1:].detach()], -1)

    delta = intervals = _intervals(widen(depths), o)
    norms = None
    if ray_norm is not None:
        norms = widen(ray_norm).unsqueeze(-1).expand_as(intervals)
        norms = _with_last(norms, 1.0) if o.rule == "left" and not o.norm_last else norms
        delta = intervals * norms

    thickness = sigma * delta
    alpha = -torch.expm1(-thickness)  # expm1 keeps the digits of a small alpha
    if o.last_alpha is not None:
        alpha = _with_last(alpha, o.last_alpha)
    passed = torch.exp(-thickness)
    start = passed.new_ones(*passed.shape[:-1], 1)
    trans = torch.cat([start, passed[..., :-1] + o.trans_eps], -1).cumprod(-1)
    mean_features = None if features is None else mean(widen(features), 2)
    weights = alpha * trans[..., : alpha.shape[-1]]
    return _Ray(argument, sigma, intervals, norms, mean(widen(depths)), mean_features, alpha, passed, trans, weights)


def _weighting_backward(
    grad_feature: Tensor | None,
    grad_depth: Tensor | None,
    grad_weights: Tensor | None,
    grad_accumulation: Tensor | None,
    ray: _Ray,
    o: VolumeRenderOptions,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """dL/dw (before last_back) [B,R,n], and of the intervals' depths [B,R,n] and features [B,R,n,C]."""
    weights = _give_rest_to_last(ray.weights) if o.last_back else ray.weights
    grad_w = torch.zeros_like(weights) if grad_weights is None else widen(grad_weights)
    grad_accum = weights.new_zeros(()) if grad_accumulation is None else widen(grad_accumulation).unsqueeze(-1)
    grad_depths = torch.zeros_like(weights)
    grad_features = None if ray.features is None else torch.zeros_like(ray.features)

    if grad_depth is not None:
        grad_sum, expected = widen(grad_depth).unsqueeze(-1), weights.new_zeros(())
        if o.depth_mode == "expected":
            inverse = _inverse_or_zero(weights.sum(-1, keepdim=True))
            grad_sum, expected = grad_sum * inverse, (weights * ray.depths).sum(-1, keepdim=True) * inverse
        grad_w = grad_w + grad_sum * (ray.depths - expected)
        grad_depths = grad_sum * weights
    if grad_feature is not None and ray.features is not None:
        grad_sum = o.feature_scale * widen(grad_feature)
        grad_w = grad_w + torch.einsum("brc,brsc->brs", grad_sum, ray.features)
        grad_features = weights.unsqueeze(-1) * grad_sum.unsqueeze(2)
        grad_accum = grad_accum - (grad_sum * _white_mask(grad_sum, o.white_channels)).sum(-1, keepdim=True)
    if o.last_back:
        grad_accum = grad_accum - grad_w[..., -1:]
    return grad_w + grad_accum, grad_depths, grad_features


def _absorb_backward(
    grad_weights: Tensor, grad_transmittance: Tensor | None, ray: _Ray, o: VolumeRenderOptions
) -> Tensor:
    """dL/dx_i = exp(-x_i) T_i (dL/dw_i - V_i).

    V_i, the gradient of the light that gets past interval i, follows from the back: V_last = 0,
    V_{i-1} = alpha_i dL/dw_i + (exp(-x_i) + trans_eps) V_i, and the transmittance's own gradient enters before the last
    interval. Nothing is divided by 1 - alpha, so opaque intervals are exact.
    """
    count = grad_weights.shape[-1]
    behind = torch.zeros_like(ray.trans[..., 0])
    through = behind if grad_transmittance is None else widen(grad_transmittance)
    gradients = []
    for i in reversed(range(count)):
        direct = ray.passed[..., i] * ray.trans[..., i]
        grad_w = grad_weights[..., i]
        from_alpha = torch.zeros_like(direct) if i == count - 1 and o.last_alpha is not None else direct * grad_w
        gradients.append(from_alpha - direct * behind)
        if i < count - 1:
            through = (ray.passed[..., i] + o.trans_eps) * behind
        behind = ray.alpha[..., i] * grad_w + through
    return torch.stack(gradients[::-1], -1) if gradients else torch.zeros_like(grad_weights)


def _identity(values: Tensor, axis: int = -1) -> Tensor:
    return values


def _neighbour_mean(values: Tensor, axis: int = -1) -> Tensor:
    """Mean of neighbours along `axis`: S values -> S - 1."""
    count = values.shape[axis] - 1
    return 0.5 * (values.narrow(axis, 0, count) + values.narrow(axis, 1, count))


def _neighbour_mean_backward(grad: Tensor, axis: int = -1) -> Tensor:
    zero = grad.new_zeros([1 if i == axis % grad.dim() else size for i, size in enumerate(grad.shape)])
    return 0.5 * (torch.cat([grad, zero], axis) + torch.cat([zero, grad], axis))


def _with_last(values: Tensor, last: float) -> Tensor:
    """values [...,n] with a constant in the last place."""
    return torch.cat([values[..., :-1], torch.full_like(values[..., -1:], last)], -1)


def _give_rest_to_last(weights: Tensor) -> Tensor:
    """w_last += 1 - sum(w); nothing where there are no intervals."""
    rest = 1 - weights.sum(-1, keepdim=True)
    return torch.cat([weights[..., :-1], weights[..., -1:] + rest], -1)


def _inverse_or_zero(total: Tensor) -> Tensor:
    """1 / total, and 0 where total is 0."""
    empty = total == 0
    return torch.where(empty, 0.0, 1 / torch.where(empty, 1.0, total))


def _white_mask(feature: Tensor, white_channels: int) -> Tensor:
    """1 for the channels [C] with white behind them, 0 for the others."""
    channels = feature.shape[-1]
    count = channels if white_channels < 0 else white_channels
    return (torch.arange(channels, device=feature.device) < count).to(feature.dtype)


def _beta(beta: Tensor | None, o: VolumeRenderOptions) -> Tensor | float:
    return o.beta_value if beta is None else widen(beta).reshape(())


def _activate(u: Tensor, activation: str, beta: Tensor | float) -> Tensor:
    """sigma of u."""
    if activation == "relu":
        return torch.relu(u)
    if activation == "softplus":
        return torch.nn.functional.softplus(beta * u, threshold=SOFTPLUS_LINEAR) / beta
    if activation == "sdf":
        return torch.sigmoid(-u / beta) / beta
    if activation == "none":
        return u
    raise ValueError(f"volume_render: activation must be relu, softplus, sdf or none, got {activation!r}")


def _slopes(u: Tensor, sigma: Tensor, activation: str, beta: Tensor | float) -> tuple[Tensor, Tensor]:
    """d sigma / du and d sigma / d beta."""
    if activation == "softplus":
        slope = torch.sigmoid(beta * u)
        return slope, (u * slope - sigma) / beta
    if activation == "sdf":
        slope = -torch.sigmoid(-u / beta) * torch.sigmoid(u / beta) / beta**2
        return slope, -(sigma + u * slope) / beta
    return (u > 0).to(u.dtype) if activation == "relu" else torch.ones_like(u), torch.zeros_like(u)


def _intervals(depths: Tensor, o: VolumeRenderOptions) -> Tensor:
    """delta [B,R,n] before the ray norm."""
    intervals = depths.diff(dim=-1)
    if o.rule == "left":
        last = depths[..., -1:]
        intervals = torch.cat([intervals, torch.full_like(last, o.last_delta) if o.far is None else o.far - last], -1)
    return torch.ones_like(intervals) if o.unit_delta else intervals


def _intervals_backward(grad: Tensor, samples: int, o: VolumeRenderOptions) -> Tensor:
    """The gradient [B,R,S] of the depths from that of the intervals [B,R,n]."""
    if o.unit_delta:
        return grad.new_zeros(*grad.shape[:-1], samples)
    inner, zero = grad[..., : samples - 1], grad.new_zeros(*grad.shape[:-1], 1)
    last = grad[..., -1:] if o.far is not None and o.rule == "left" else zero
    return torch.cat([zero, inner], -1) - torch.cat([inner, last], -1)
