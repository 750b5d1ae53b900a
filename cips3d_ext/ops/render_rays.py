"""From rays to features in one op: points along rays, a FiLM-SIREN field, hierarchical samples, volume rendering.

    depths   = stratified(near, far, jitter)                        features, density = siren_field(o + depths d)
    fine     = sample_pdf(middles of depths, weights(density + noise_coarse), u)     and the field at these depths
    feature, depth, weights = volume_render of both, merged by depth, with density + noise

CIPS-3D and pi-GAN render so. origins o and directions d [B,R,3]; S coarse and F fine samples a ray, M = S + F. The
fused kernel keeps nothing of a sample: memory holds what this page calls [B,R,...], and the backward samples again.

Gradients: origins, directions, the field's weights, biases, gamma and beta, first and second order; depths are
constants (the gradient knows how the field changes at the points, not where the points would go). Under autocast it
computes and returns float32, as the other ops along rays; float16 and bfloat16 compute in float32, rounded at the end
(on CPUs with AVX512_BF16 the operands of the backward's bfloat16 products are rounded, as in `siren_field`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import reference
from ._autocast import autocast_to_float32
from ._checks import check_choice, check_one_dtype, check_shape, check_tensors
from ._precision import reduced_precision
from ._registry import REGISTRY, OpSpec, call, dispatcher_op, register
from ._siren import FieldSizes, LinearMap, check_field, check_packed, named_tensors, pack_field
from .volume_render import ACTIVATIONS, white_channel_count

FEWEST_SAMPLES = 2  # a spacing needs two
FEWEST_SAMPLES_HIERARCHICAL = 3  # importance sampling takes the inner weights
# What the CUDA kernels hold: layers in registers, by the float16 numbers that an operand consists of; samples of a ray.
WIDEST_ON_CUDA = {1: 256, 2: 128}
MOST_SAMPLES_ON_CUDA = 4096
_ARGUMENTS = (
    "Tensor origins, Tensor directions, Tensor parameters, Tensor? gamma, Tensor? beta, Tensor jitter, Tensor? u, "
    "Tensor? noise_coarse, Tensor? noise, int[] widths, int colour_width, int features, bool view_directions, "
    "float point_scale, float gamma_scale, float gamma_offset, float beta_scale, bool reduced_precision, "
    "float near, float far, str activation, bool last_back, int white_channels"
)
SCHEMA = f"render_rays({_ARGUMENTS}) -> (Tensor feature, Tensor depth, Tensor weights, Tensor fine_depths)"
SCHEMA_BACKWARD = (
    "render_rays_backward(Tensor? grad_feature, Tensor? grad_depth, Tensor? grad_weights, Tensor fine_depths, "
    f"{_ARGUMENTS}, int grad_mask) -> "
    "(Tensor grad_origins, Tensor grad_directions, Tensor grad_parameters, Tensor grad_gamma, Tensor grad_beta)"
)


class RenderRaysOutput(NamedTuple):
    """What `render_rays` returns."""

    feature: Tensor  # [B,R,C]
    depth: Tensor  # [B,R] = sum of weight * depth, unit of near and far
    weights: Tensor  # [B,R,M] by increasing depth, last_back included


def _check_rays(
    origins: Tensor,
    directions: Tensor,
    jitter: Tensor,
    u: Tensor | None,
    noise_coarse: Tensor | None,
    noise: Tensor | None,
    activation: str,
) -> None:
    check_choice("render_rays", "activation", activation, ACTIVATIONS)
    check_shape("render_rays", "origins", origins, "[B,R,3]", None, None, reference.COORDINATES)
    B, R, _ = origins.shape
    check_shape("render_rays", "directions", directions, "[B,R,3]", B, R, reference.COORDINATES)
    check_shape("render_rays", "jitter", jitter, "[B,R,S]", B, R, None)
    S, F = jitter.shape[2], 0
    fewest = FEWEST_SAMPLES
    if u is not None:
        check_shape("render_rays", "u", u, "[B,R,F]", B, R, None)
        F, fewest = u.shape[2], FEWEST_SAMPLES_HIERARCHICAL
    if fewest > S:
        raise ValueError(f"render_rays: jitter must have at least {fewest} samples a ray, got S = {S}")
    if noise_coarse is not None:
        if u is None:
            raise ValueError("render_rays: noise_coarse is for the weights that u samples; give u=, or leave it out")
        check_shape("render_rays", "noise_coarse", noise_coarse, "[B,R,S]", B, R, S)
    if noise is not None:
        check_shape("render_rays", "noise", noise, "[B,R,M]", B, R, S + F)


def _fake(
    origins: Tensor,
    directions: Tensor,
    parameters: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    jitter: Tensor,
    u: Tensor | None,
    noise_coarse: Tensor | None,
    noise: Tensor | None,
    *options: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    o = reference.RenderRaysOptions(*options)
    _check_rays(origins, directions, jitter, u, noise_coarse, noise, o.activation)
    B, R, S = jitter.shape
    sizes = FieldSizes(o.widths, o.colour_width, o.features)
    check_packed("render_rays", parameters, gamma, beta, B, sizes, o.view_directions)
    F = 0 if u is None else u.shape[2]
    computing = torch.float64 if origins.dtype == torch.float64 else torch.float32
    feature, weights = origins.new_empty((B, R, o.features)), origins.new_empty((B, R, S + F))
    return feature, origins.new_empty((B, R)), weights, origins.new_empty((B, R, F), dtype=computing)


def _beyond(device_type: str, tensors: Sequence[Any], options: Sequence[Any]) -> str:
    """The limits of the CUDA kernels; see render_rays_cuda.h."""
    if device_type != "cuda":
        return ""
    origins, jitter, u = tensors[0], tensors[5], tensors[6]
    o = reference.RenderRaysOptions(*options)
    if origins.dtype == torch.float64:
        return "the cuda kernel computes in float32"
    widest = WIDEST_ON_CUDA[2 if origins.dtype == torch.float32 and not o.reduced_precision else 1]
    channels = max(*o.widths, o.colour_width, o.features)
    if channels > widest:
        return f"the cuda kernel takes layers of at most {widest} channels in this precision, got {channels}"
    samples = jitter.shape[2] + (0 if u is None else u.shape[2])
    if samples > MOST_SAMPLES_ON_CUDA:
        return f"the cuda kernel takes at most {MOST_SAMPLES_ON_CUDA} samples a ray, got {samples}"
    return ""


def _parts() -> reference.RenderRaysParts:
    """The dispatcher ops, called as the references are: options as keywords."""

    def part(name: str, suffix: str = "", last: tuple[str, ...] = ()) -> Callable[..., Any]:
        op, names = dispatcher_op(name + suffix), (*REGISTRY[name].options, *last)
        return lambda *tensors, **options: op(*tensors, *(options[option] for option in names))

    return reference.RenderRaysParts(
        siren_field=part("siren_field"),
        siren_field_backward=part("siren_field", "_backward", ("grad_mask",)),
        volume_render=part("volume_render"),
        volume_render_backward=part("volume_render", "_backward", ("grad_mask",)),
        sample_pdf=part("sample_pdf"),
        merge_samples=part("merge_samples"),
        merge_samples_gather=dispatcher_op("merge_samples_gather"),
    )


def _of_parts(*tensors: Tensor | None, **options: Any) -> Any:
    return reference.render_rays(*tensors, **options, parts=_parts())  # type: ignore[arg-type]


def _of_parts_backward(*tensors: Tensor | None, **options: Any) -> Any:
    return reference.render_rays_backward(*tensors, **options, parts=_parts())  # type: ignore[arg-type]


register(
    OpSpec(
        name="render_rays",
        schema=SCHEMA,
        backward_schema=SCHEMA_BACKWARD,
        reference=reference.render_rays,
        reference_backward=reference.render_rays_backward,
        fake=_fake,
        grad_of=((0,), (1,), (2,), (3,), (4,)),
        residuals=1,
        parts=("siren_field", "volume_render", "sample_pdf", "merge_samples"),
        of_parts=_of_parts,
        of_parts_backward=_of_parts_backward,
        beyond=_beyond,
    )
)


def render_rays(
    origins: Tensor,
    directions: Tensor,
    layers: Sequence[LinearMap],
    density: LinearMap,
    colour: LinearMap | None,
    feature: LinearMap,
    gamma: Sequence[Tensor] | None = None,
    beta: Sequence[Tensor] | None = None,
    *,
    near: float,
    far: float,
    jitter: Tensor,
    u: Tensor | None = None,
    noise_coarse: Tensor | None = None,
    noise: Tensor | None = None,
    view_directions: bool = False,
    point_scale: float = 1.0,
    gamma_scale: float = 1.0,
    gamma_offset: float = 0.0,
    beta_scale: float = 1.0,
    activation: str = "relu",
    last_back: bool = False,
    white_back: bool | int = False,
    impl: str = "auto",
) -> RenderRaysOutput:
    """Features, depths and weights of rays through a FiLM-SIREN field.

    Args:
        origins, directions: [B,R,3], world units; points lie at origin + depth * direction.
        layers, density, colour, feature, gamma, beta, point_scale, gamma_scale, gamma_offset, beta_scale: the field, as
            in `siren_field`.
        near, far: the coarse depths are evenly spaced between these, both ends included.
        jitter: [B,R,S], uniform in [0,1): each coarse depth moves by (jitter - 0.5) times the spacing.
        u: [B,R,F], uniform in [0,1), in any order: where the fine samples fall; None for the coarse ones alone.
        noise_coarse: [B,R,S], added to the density for the weights that the fine samples follow, or None.
        noise: [B,R,M], added to the density of the final integration, in the order of the depths, or None.
        view_directions: the colour layer takes the rays' directions (pi-GAN).
        activation: of the density, as in `volume_render`; the last interval is infinite (1e10).
        last_back, white_back: as in `volume_render`, for the final integration.
        impl: "auto" (native kernel if there is one, else the native kernels of the parts, which takes memory for the
            samples while it runs, but keeps none), "fused" (native or RuntimeError), "reference".

    torch.set_float32_matmul_precision rules the field's float32 products as in `siren_field`.

    Returns: RenderRaysOutput(feature [B,R,C], depth [B,R], weights [B,R,M]) in the dtype of origins, contiguous.
    Raises: ValueError for wrong shapes or options, TypeError for dtypes, RuntimeError if impl="fused" is not possible.
    """
    named = named_tensors(layers, density, colour, feature, gamma, beta)
    randoms = {"jitter": jitter, "u": u, "noise_coarse": noise_coarse, "noise": noise}
    given = {"origins": origins, "directions": directions, **named, **randoms}
    check_tensors("render_rays", **given)
    given = dict(zip(given, autocast_to_float32(*given.values()), strict=True))
    check_one_dtype("render_rays", **given)
    origins, directions, jitter = given["origins"], given["directions"], given["jitter"]
    u, noise_coarse, noise = given["u"], given["noise_coarse"], given["noise"]
    _check_rays(origins, directions, jitter, u, noise_coarse, noise, activation)
    named = {name: given[name] for name in named}
    sizes = check_field("render_rays", named, origins.shape[0], view_directions)
    white_channels = white_channel_count("render_rays", white_back, sizes.features)
    scales = (point_scale, gamma_scale, gamma_offset, beta_scale, reduced_precision())
    options = (*sizes, view_directions, *scales, near, far, activation, last_back, white_channels)
    tensors = (origins, directions, *pack_field(named), jitter, u, noise_coarse, noise)
    return RenderRaysOutput(*call("render_rays", impl, tensors, options))
