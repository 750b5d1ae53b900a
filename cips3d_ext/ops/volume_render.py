"""Volume rendering along rays: one op for the integrators of many 3D GANs.

CIPS-3D, pi-GAN, EG3D, VolumeGAN, StyleNeRF, GIRAFFE, StyleSDF and EpiGRAF differ in its options only.

    sigma_i = activation(density_i + noise_i + shift)       alpha_i = 1 - exp(-sigma_i delta_i)
    T_i = prod_{j<i} (1 - alpha_j + trans_eps)              w_i = alpha_i T_i              feature = sum_i w_i f_i

density, depths, noise [B,R,S], features [B,R,S,C], ray_norm [B,R], beta 1 element. Gradients: all six, first and second
order. Under autocast it computes and returns float32 (the last interval, 1e10, overflows float16).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import reference
from ._autocast import autocast_to_float32
from ._checks import check_choice, check_shape, check_tensors
from ._registry import OpSpec, call, register

ACTIVATIONS = ("relu", "softplus", "sdf", "none")
RULES = ("left", "midpoint")
DEPTHS = ("sum", "expected")
_ARGUMENTS = (
    "Tensor density, Tensor? features, Tensor depths, Tensor? noise, Tensor? beta, Tensor? ray_norm, str activation, "
    "float shift, float beta_value, str rule, float last_delta, float? far, bool unit_delta, bool norm_last, "
    "float? last_alpha, float trans_eps, bool last_back, int white_channels, str depth_mode, float feature_scale, "
    "float feature_shift"
)
SCHEMA = (
    f"volume_render({_ARGUMENTS}) -> "
    "(Tensor feature, Tensor depth, Tensor weights, Tensor transmittance, Tensor accumulation)"
)
SCHEMA_BACKWARD = (
    "volume_render_backward(Tensor? grad_feature, Tensor? grad_depth, Tensor? grad_weights, "
    f"Tensor? grad_transmittance, Tensor? grad_accumulation, {_ARGUMENTS}, int grad_mask) -> "
    "(Tensor grad_density, Tensor grad_features, Tensor grad_depths, Tensor grad_beta, Tensor grad_ray_norm)"
)


class VolumeRenderOutput(NamedTuple):
    """What `volume_render` returns; n intervals: S with the left rule, S - 1 with the midpoint rule."""

    feature: Tensor | None  # [B,R,C], None without features
    depth: Tensor  # [B,R], unit of depths
    weights: Tensor  # [B,R,n], last_back included
    transmittance: Tensor  # [B,R], T before the last interval
    accumulation: Tensor  # [B,R], sum of the weights before last_back


def _check(
    density: Tensor,
    features: Tensor | None,
    depths: Tensor,
    noise: Tensor | None,
    beta: Tensor | None,
    ray_norm: Tensor | None,
    activation: str,
    rule: str,
) -> None:
    check_choice("volume_render", "activation", activation, ACTIVATIONS)
    check_choice("volume_render", "rule", rule, RULES)
    check_shape("volume_render", "density", density, "[B,R,S]", None, None, None)
    shape = density.shape
    fewest = 2 if rule == "midpoint" else 1
    if shape[2] < fewest:
        raise ValueError(f"volume_render: rule {rule!r} needs at least {fewest} samples a ray, got S = {shape[2]}")
    check_shape("volume_render", "depths", depths, "[B,R,S]", *shape)
    if features is not None:
        check_shape("volume_render", "features", features, "[B,R,S,C]", *shape, None)
    if noise is not None:
        check_shape("volume_render", "noise", noise, "[B,R,S]", *shape)
    if ray_norm is not None:
        check_shape("volume_render", "ray_norm", ray_norm, "[B,R]", *shape[:2])
    if beta is not None and beta.numel() != 1:
        raise ValueError(f"volume_render: beta must be a number or a tensor of one element, got {list(beta.shape)}")


def _fake(density: Tensor, features: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    depths, noise, beta, ray_norm, activation = rest[:5]
    rule = rest[7]
    _check(density, features, depths, noise, beta, ray_norm, activation, rule)
    B, R, S = density.shape
    intervals = S - 1 if rule == "midpoint" else S
    feature = density.new_empty((B, R, 0 if features is None else features.shape[3]))
    rays = (density.new_empty((B, R)) for _ in range(3))
    depth, transmittance, accumulation = rays
    return feature, depth, density.new_empty((B, R, intervals)), transmittance, accumulation


register(
    OpSpec(
        name="volume_render",
        schema=SCHEMA,
        backward_schema=SCHEMA_BACKWARD,
        reference=reference.volume_render,
        reference_backward=reference.volume_render_backward,
        fake=_fake,
        grad_of=((0, 3), (1,), (2,), (4,), (5,)),  # noise is added to density: one gradient for both
    )
)


def volume_render(
    density: Tensor,
    features: Tensor | None,
    depths: Tensor,
    *,
    noise: Tensor | None = None,
    activation: str = "relu",
    shift: float = 0.0,
    beta: float | Tensor = 1.0,
    rule: str = "left",
    last_delta: float = 1e10,
    far: float | None = None,
    unit_delta: bool = False,
    ray_norm: Tensor | None = None,
    norm_last: bool = True,
    last_alpha: float | None = None,
    trans_eps: float = 1e-10,
    last_back: bool = False,
    white_back: bool | int = False,
    depth: str = "sum",
    feature_scale: float = 1.0,
    feature_shift: float = 0.0,
    impl: str = "auto",
) -> VolumeRenderOutput:
    """Weights, features and depth of rays from densities along them.

    Args:
        density: raw network output [B,R,S], 1 / unit of depths.
        features: [B,R,S,C], or None to get weights alone. Columns of a network's output, raw[..., 1:], are read where
            they lie, without a copy.
        depths: distances along the ray [B,R,S], increasing.
        noise: [B,R,S], added to density, or None.
        activation: of u = density + noise + shift: "relu"; "softplus", log(1 + exp(beta u)) / beta; "sdf" (StyleSDF),
            sigmoid(-u / beta) / beta, where beta may be a learnable tensor of one element; "none".
        rule: "left": delta_i = z_{i+1} - z_i, and the last interval ends at `far`, or is `last_delta` long.
            "midpoint" (EG3D): densities (before the activation), features and depths are means of neighbours, S - 1
            intervals.
        unit_delta: every interval counts 1 (VolumeGAN's no_dist).
        ray_norm: length of each ray's direction [B,R], multiplies the intervals; the appended one only with norm_last.
        last_alpha: replaces alpha of the last interval (StyleNeRF: 1).
        trans_eps: in T_i = prod (1 - alpha_j + trans_eps).
        last_back: the last weight takes what is left, w_last += 1 - accumulation.
        white_back: adds 1 - accumulation to all features (True) or the first k (int).
        depth: "sum": sum w z; "expected": sum w z / sum w, limited to the range of depths (EG3D).
        feature_scale, feature_shift: applied to feature last.
        impl: "auto" (native kernel if there is one), "fused" (native or RuntimeError), "reference".

    Returns: VolumeRenderOutput(feature, depth, weights, transmittance, accumulation). Inputs of different dtypes are
        taken in the widest of them; feature has the dtype of features, all else that widest dtype.
    Raises: ValueError for wrong shapes or options, TypeError for dtypes, RuntimeError if impl="fused" is not possible.
    Note: with last_delta >= 1e9 alpha of the last sample is a step in its density; that gradient is defined as 0.
    """
    beta_tensor = beta if isinstance(beta, Tensor) else None
    beta_value = 1.0 if isinstance(beta, Tensor) else float(beta)
    given = {"features": features, "depths": depths, "noise": noise, "beta": beta_tensor, "ray_norm": ray_norm}
    check_tensors("volume_render", density=density, **given)
    check_tensors("volume_render", depths=depths)
    density, *others = autocast_to_float32(density, *given.values())
    feature_dtype = density.dtype if others[0] is None else others[0].dtype
    density, features, depths, noise, beta_tensor, ray_norm = _widest(density, *others)
    _check(density, features, depths, noise, beta_tensor, ray_norm, activation, rule)
    check_choice("volume_render", "depth", depth, DEPTHS)
    tensors = (density, features, depths, noise, beta_tensor, ray_norm)
    white_channels = white_channel_count("volume_render", white_back, 0 if features is None else features.shape[3])
    steps = (rule, last_delta, far, unit_delta, norm_last, last_alpha, trans_eps, last_back)
    options = (activation, shift, beta_value, *steps, white_channels, depth, feature_scale, feature_shift)
    feature, ray_depth, weights, transmittance, accumulation = call("volume_render", impl, tensors, options)
    if depth == "expected" and depths.numel():
        ray_depth = torch.clamp(ray_depth, depths.min(), depths.max())
    shown = None if features is None else feature.to(feature_dtype)
    return VolumeRenderOutput(shown, ray_depth, weights, transmittance, accumulation)


def white_channel_count(op: str, white_back: bool | int, channels: int) -> int:
    """How many of the first channels have white behind them: all for True."""
    if int(white_back) < 0:
        raise ValueError(f"{op}: white_back must be a bool or a number of channels >= 0, got {white_back}")
    return channels if white_back is True else min(int(white_back), channels)


def _widest(*tensors: Any) -> tuple[Any, ...]:
    dtype = tensors[0].dtype
    for tensor in tensors:
        dtype = dtype if tensor is None else torch.promote_types(dtype, tensor.dtype)
    return tuple(None if tensor is None else tensor.to(dtype) for tensor in tensors)
