"""A whole FiLM-SIREN field in one op: points -> sine layers -> density and features (pi-GAN, CIPS-3D).

    x_0 = point_scale * points     x_k = sin(g_k * (x_{k-1} W_k^T + b_k) + h_k)     density = x_L w^T + b
    features = c W_f^T + b_f,   c = sin(g * ([directions, x_L] W^T + b) + h), or x_L without a colour layer
    g = gamma_scale * gamma + gamma_offset (1 without gamma),   h = beta_scale * beta (0 without beta)

points [B,*,3], up to 8 trunk layers of any widths, gamma and beta [B,O] a layer, directions [B,R,3], each for N / R
consecutive points. Gradients: all tensors, first and second order; the backward computes the layers again, so nothing
of size points x width is ever in memory. Under autocast it runs in the active dtype; float16 and bfloat16 compute in
float32 (on CPUs with AVX512_BF16 the operands of bfloat16 products are rounded, those of the first layer are not).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from .. import reference
from ._autocast import autocast_to_active
from ._checks import check_one_dtype, check_shape, check_tensors
from ._precision import reduced_precision
from ._registry import OpSpec, call, register
from ._siren import FieldSizes, LinearMap, check_field, check_packed, named_tensors, pack_field

_ARGUMENTS = (
    "Tensor points, Tensor parameters, Tensor? gamma, Tensor? beta, Tensor? directions, int[] widths, "
    "int colour_width, int features, float point_scale, float gamma_scale, float gamma_offset, float beta_scale, "
    "bool reduced_precision"
)
SCHEMA = f"siren_field({_ARGUMENTS}) -> (Tensor features, Tensor density)"
SCHEMA_BACKWARD = (
    f"siren_field_backward(Tensor? grad_features, Tensor? grad_density, {_ARGUMENTS}, int grad_mask) -> "
    "(Tensor grad_points, Tensor grad_parameters, Tensor grad_gamma, Tensor grad_beta, Tensor grad_directions)"
)


class SirenFieldOutput(NamedTuple):
    """What `siren_field` returns."""

    features: Tensor | None  # [B,*,C], None without a feature map
    density: Tensor  # [B,*], before any activation


def _check_points(points: Tensor, directions: Tensor | None) -> None:
    check_shape("siren_field", "points", points, "[B,N,3]", None, None, reference.COORDINATES)
    if directions is None:
        return
    B, N = points.shape[:2]
    check_shape("siren_field", "directions", directions, "[B,R,3]", B, None, reference.COORDINATES)
    R = directions.shape[1]
    if N % R if R else N:
        raise ValueError(
            f"siren_field: the number of points must be a multiple of the R of directions [B,R,3], "
            f"got {N} points and directions {list(directions.shape)}"
        )


def _fake(
    points: Tensor,
    parameters: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    directions: Tensor | None,
    widths: list[int],
    colour_width: int,
    features: int,
    *options: Any,
) -> tuple[Tensor, Tensor]:
    _check_points(points, directions)
    B, N = points.shape[:2]
    sizes = FieldSizes(widths, colour_width, features)
    check_packed("siren_field", parameters, gamma, beta, B, sizes, directions is not None)
    return points.new_empty((B, N, features)), points.new_empty((B, N))


register(
    OpSpec(
        name="siren_field",
        schema=SCHEMA,
        backward_schema=SCHEMA_BACKWARD,
        reference=reference.siren_field,
        reference_backward=reference.siren_field_backward,
        fake=_fake,
        grad_of=((0,), (1,), (2,), (3,), (4,)),
    )
)


def siren_field(
    points: Tensor,
    layers: Sequence[LinearMap],
    density: LinearMap,
    colour: LinearMap | None = None,
    feature: LinearMap | None = None,
    gamma: Sequence[Tensor] | None = None,
    beta: Sequence[Tensor] | None = None,
    *,
    directions: Tensor | None = None,
    point_scale: float = 1.0,
    gamma_scale: float = 1.0,
    gamma_offset: float = 0.0,
    beta_scale: float = 1.0,
    impl: str = "auto",
) -> SirenFieldOutput:
    """Density and features of points in a FiLM-SIREN field.

    Args:
        points: [B,*,3], world units; multiplied by point_scale first (CIPS-3D and pi-GAN: 2 / 0.24).
        layers: (weight [O,I], bias [O]) of each trunk layer, 1 to 8 of them; the first has 3 inputs.
        density: (weight [1,W], bias [1]) of the linear map of the last trunk layer.
        colour: (weight [O,W] or, with directions, [O,3+W], bias [O]) of one more sine layer before the features.
        feature: (weight [C,I], bias [C]) of the features' linear map, of the colour layer or the last trunk layer.
        gamma: frequencies, one [B,O] a sine layer, colour last; None for g = 1. CIPS-3D: gamma_scale 15, offset 30.
        beta: phases (rad) in the same way; None for h = 0.
        directions: [B,R,3], the colour layer's first three inputs; each is that of N / R consecutive points.
        impl: "auto" (native kernel if there is one), "fused" (native or RuntimeError), "reference".

    torch.set_float32_matmul_precision rules the float32 products as it rules torch's own: at "highest" they have
    float32's accuracy, at "high" and "medium" the CUDA kernels round their operands to float16 (11 bits, as TF32).

    Returns: SirenFieldOutput(features [B,*,C] or None, density [B,*]) in the dtype of points (the active dtype under
        autocast), contiguous.
    Raises: ValueError for wrong shapes, TypeError for dtypes, RuntimeError if impl="fused" is not possible.
    """
    named = named_tensors(layers, density, colour, feature, gamma, beta)
    check_tensors("siren_field", points=points, **named, directions=directions)
    points, directions, *values = autocast_to_active(points, directions, *named.values())
    named = dict(zip(named, values, strict=True))
    check_one_dtype("siren_field", points=points, **named, directions=directions)
    if points.dim() < 2:
        raise ValueError(f"siren_field: points must be [B,*,3] with at least two axes, got {list(points.shape)}")
    flat = points.reshape(points.shape[0], math.prod(points.shape[1:-1]), points.shape[-1])
    _check_points(flat, directions)
    sizes = check_field("siren_field", named, points.shape[0], directions is not None)
    options = (*sizes, point_scale, gamma_scale, gamma_offset, beta_scale, reduced_precision())
    out, sigma = call("siren_field", impl, (flat, *pack_field(named), directions), options)
    shape = points.shape[:-1]
    return SirenFieldOutput(None if feature is None else out.reshape(*shape, sizes.features), sigma.reshape(shape))
