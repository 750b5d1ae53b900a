"""A whole FiLM-SIREN field: points through sine layers to a density, and through one more sine layer to features.

Source: pi-GAN (arXiv 2012.00926) `SPATIALSIRENBASELINE` (view directions enter the colour layer), CIPS-3D (arXiv
2110.09788) `SIREN` (no directions), both made of `FiLMLayer`. Axes: B batch, N points, R directions, O out, I in, C
features, F FiLM channels of all sine layers.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ._gradients import ALL_GRADIENTS, select_gradients
from ._precision import widen
from .film_sine import film_sine, film_sine_backward

COORDINATES = 3  # of a point and of a direction


class Linear(NamedTuple):
    """A linear map x -> x weight^T + bias: weight [O,I], bias [O]."""

    weight: Tensor
    bias: Tensor


class SineLayer(NamedTuple):
    """What `film_sine` takes besides x: weight [O,I], bias [O], gamma and beta [B,O] or None."""

    weight: Tensor
    bias: Tensor
    gamma: Tensor | None
    beta: Tensor | None


class Field(NamedTuple):
    """The layers of a field; colour None: the features are a linear map of the last trunk layer."""

    trunk: list[SineLayer]
    density: Linear
    colour: SineLayer | None
    feature: Linear


def siren_field_shapes(
    widths: list[int], colour_width: int, features: int, view_directions: bool
) -> list[tuple[int, int]]:
    """Weight shapes [O,I] in the order of `parameters`: trunk layers, density, colour layer (if any), features."""
    trunk = list(zip(widths, [COORDINATES, *widths[:-1]], strict=True))
    width = widths[-1]
    if colour_width == 0:
        return [*trunk, (1, width), (features, width)]
    colour = (colour_width, width + COORDINATES * view_directions)
    return [*trunk, (1, width), colour, (features, colour_width)]


def siren_field(
    points: Tensor,
    parameters: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    directions: Tensor | None = None,
    *,
    widths: list[int],
    colour_width: int = 0,
    features: int = 0,
    point_scale: float = 1.0,
    gamma_scale: float = 1.0,
    gamma_offset: float = 0.0,
    beta_scale: float = 1.0,
    reduced_precision: bool = False,
) -> tuple[Tensor, Tensor]:
    """features [B,N,C] and density [B,N] of points [B,N,3], in the dtype of points.

    x_0 = point_scale * points, x_k = film_sine(x_{k-1}) of widths[k-1] channels, density = a linear map of the last x;
    features = a linear map of film_sine([directions, x]) with colour_width channels, or of x if that is 0.

    parameters: weight [O,I] and bias [O] of every layer in the order of `siren_field_shapes`, flat. gamma, beta [B,F],
    the layers one after the other, or None as in `film_sine`, which also has the scales. directions [B,R,3], each for
    N / R consecutive points, or None. reduced_precision is a permission for kernels; nothing is rounded here.
    """
    field = _unpack(parameters, gamma, beta, widths, colour_width, features, directions is not None)
    scales = (gamma_scale, gamma_offset, beta_scale)
    *_, x = _trunk_inputs(points, field, point_scale, scales)
    density = _apply(field.density, x)[..., 0]
    if field.colour is not None:
        x = _film_sine(field.colour, _with_directions(x, directions), scales)
    return _apply(field.feature, x).to(points.dtype), density.to(points.dtype)


def siren_field_backward(
    grad_features: Tensor | None,
    grad_density: Tensor | None,
    points: Tensor,
    parameters: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    directions: Tensor | None = None,
    *,
    widths: list[int],
    colour_width: int = 0,
    features: int = 0,
    point_scale: float = 1.0,
    gamma_scale: float = 1.0,
    gamma_offset: float = 0.0,
    beta_scale: float = 1.0,
    reduced_precision: bool = False,
    grad_mask: int = ALL_GRADIENTS,
) -> tuple[Tensor | None, ...]:
    """Gradients of points, parameters, gamma, beta and directions from grad_features [B,N,C] and grad_density [B,N].

    The layers' gradients by the chain rule, from the last layer to the first; the layers' inputs are computed again.
    """
    field = _unpack(parameters, gamma, beta, widths, colour_width, features, directions is not None)
    scales = (gamma_scale, gamma_offset, beta_scale)
    *inputs, x = _trunk_inputs(points, field, point_scale, scales)
    grad_y = x.new_zeros((*points.shape[:2], features)) if grad_features is None else widen(grad_features)
    grad_sigma = x.new_zeros(points.shape[:2]) if grad_density is None else widen(grad_density)

    grad_directions, grad_films = None, []
    if field.colour is None:
        grad_x, *tail = _apply_backward(grad_y, field.feature, x)
    else:
        colour_input = _with_directions(x, directions)
        grad_hidden, *last = _apply_backward(grad_y, field.feature, _film_sine(field.colour, colour_input, scales))
        grad_input, *colour, grad_gamma, grad_beta = _film_sine_backward(
            grad_hidden, field.colour, colour_input, scales
        )
        if directions is not None:
            grad_directions = grad_input[..., :COORDINATES].reshape(*_per_direction(points, directions), COORDINATES)
            grad_directions = grad_directions.sum(2)
        grad_x = grad_input[..., grad_input.shape[-1] - x.shape[-1] :]
        tail = [*colour, *last]
        grad_films = [(grad_gamma, grad_beta)]
    from_density, *density = _apply_backward(grad_sigma[..., None], field.density, x)
    grad_x, head = grad_x + from_density, [*density, *tail]
    for layer, layer_input in zip(reversed(field.trunk), reversed(inputs), strict=True):
        grad_x, *linear, grad_gamma, grad_beta = _film_sine_backward(grad_x, layer, layer_input, scales)
        head = [*linear, *head]
        grad_films = [(grad_gamma, grad_beta), *grad_films]

    gradients = (
        point_scale * grad_x,
        torch.cat([grad.reshape(-1) for grad in head]),
        None if gamma is None else torch.cat([grad for grad, _ in grad_films], -1),
        None if beta is None else torch.cat([grad for _, grad in grad_films], -1),
        grad_directions,
    )
    return select_gradients(gradients, (points, parameters, gamma, beta, directions), grad_mask)


def _unpack(
    parameters: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    widths: list[int],
    colour_width: int,
    features: int,
    view_directions: bool,
) -> Field:
    shapes = siren_field_shapes(widths, colour_width, features, view_directions)
    parts = iter(widen(parameters).split([size for O, I in shapes for size in (O * I, O)]))
    linears = [Linear(next(parts).view(shape), next(parts)) for shape in shapes]
    sizes = [*widths, colour_width]
    gammas, betas = ([None] * len(sizes) if film is None else widen(film).split(sizes, -1) for film in (gamma, beta))
    trunk = [SineLayer(*linears[k], gammas[k], betas[k]) for k in range(len(widths))]
    colour = SineLayer(*linears[-2], gammas[-1], betas[-1]) if colour_width else None
    return Field(trunk, linears[len(widths)], colour, linears[-1])


def _trunk_inputs(points: Tensor, field: Field, point_scale: float, scales: tuple[float, ...]) -> list[Tensor]:
    """The input of each trunk layer, and the last one's output."""
    xs = [point_scale * widen(points)]
    for layer in field.trunk:
        xs.append(_film_sine(layer, xs[-1], scales))
    return xs


def _film_sine(layer: SineLayer, x: Tensor, scales: tuple[float, ...]) -> Tensor:
    gamma_scale, gamma_offset, beta_scale = scales
    return film_sine(x, *layer, gamma_scale=gamma_scale, gamma_offset=gamma_offset, beta_scale=beta_scale)


def _film_sine_backward(grad_y: Tensor, layer: SineLayer, x: Tensor, scales: tuple[float, ...]) -> list[Tensor]:
    """Gradients of x, weight and bias, and of gamma and beta (where those are given)."""
    gamma_scale, gamma_offset, beta_scale = scales
    gradients = film_sine_backward(
        grad_y, x, *layer, gamma_scale=gamma_scale, gamma_offset=gamma_offset, beta_scale=beta_scale
    )
    return list(gradients)  # type: ignore[arg-type]


def _apply(linear: Linear, x: Tensor) -> Tensor:
    return x @ linear.weight.T + linear.bias


def _apply_backward(grad_y: Tensor, linear: Linear, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias."""
    return grad_y @ linear.weight, torch.einsum("bno,bni->oi", grad_y, x), grad_y.sum((0, 1))


def _per_direction(points: Tensor, directions: Tensor) -> tuple[int, int, int]:
    """B, R, and the points of one direction."""
    B, R = directions.shape[:2]
    return B, R, points.shape[1] // R if R else 0


def _with_directions(x: Tensor, directions: Tensor | None) -> Tensor:
    """[directions, x]: each direction before the channels of its consecutive points."""
    if directions is None:
        return x
    shape = (*_per_direction(x, directions), COORDINATES)
    return torch.cat([widen(directions).unsqueeze(2).expand(shape).reshape(*x.shape[:2], COORDINATES), x], -1)
