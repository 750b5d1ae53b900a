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
from ._products import linear_map, weight_gradient
from .film_sine import film_sine_backward, sine_of_linear

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
    (*_, x), _ = _trunk(points, field, point_scale, scales)
    density = _apply(field.density, x)[..., 0]
    if field.colour is not None:
        x, _ = _film_sine(field.colour, _with_directions(x, directions), scales)
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
    wants_parameters, wants_gamma, wants_beta = (grad_mask >> i & 1 for i in (1, 2, 3))
    layer_mask = 0b1 | 0b110 * wants_parameters | 0b1000 * wants_gamma | 0b10000 * wants_beta
    (*inputs, x), linears = _trunk(points, field, point_scale, scales)
    grad_y = x.new_zeros((*points.shape[:2], features)) if grad_features is None else widen(grad_features)
    grad_sigma = x.new_zeros(points.shape[:2]) if grad_density is None else widen(grad_density)

    grad_directions, grad_films = None, []
    if field.colour is None:
        grad_x, *tail = _apply_backward(grad_y, field.feature, x, layer_mask)
    else:
        colour_input = _with_directions(x, directions)
        hidden, linear = _film_sine(field.colour, colour_input, scales)
        grad_hidden, *last = _apply_backward(grad_y, field.feature, hidden, layer_mask)
        grad_input, *colour, grad_gamma, grad_beta = _film_sine_backward(
            grad_hidden, field.colour, colour_input, linear, scales, layer_mask
        )
        if directions is not None:
            grad_directions = grad_input[..., :COORDINATES].reshape(*_per_direction(points, directions), COORDINATES)
            grad_directions = grad_directions.sum(2)
        grad_x = grad_input[..., grad_input.shape[-1] - x.shape[-1] :]
        tail = [*colour, *last]
        grad_films = [(grad_gamma, grad_beta)]
    from_density, *density = _apply_backward(grad_sigma[..., None], field.density, x, layer_mask)
    grad_x, head = grad_x + from_density, [*density, *tail]
    for layer, given, linear in zip(reversed(field.trunk), reversed(inputs), reversed(linears), strict=True):
        grad_x, *of_linear, grad_gamma, grad_beta = _film_sine_backward(
            grad_x, layer, given, linear, scales, layer_mask
        )
        head = [*of_linear, *head]
        grad_films = [(grad_gamma, grad_beta), *grad_films]

    gradients = (
        point_scale * grad_x,
        lambda: torch.cat([grad.reshape(-1) for grad in head]),
        lambda: torch.cat([grad for grad, _ in grad_films], -1),
        lambda: torch.cat([grad for _, grad in grad_films], -1),
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


def _trunk(
    points: Tensor, field: Field, point_scale: float, scales: tuple[float, ...]
) -> tuple[list[Tensor], list[Tensor]]:
    """The input of each trunk layer and the last one's output; each layer's linear map."""
    xs, linears = [point_scale * widen(points)], []
    for layer in field.trunk:
        y, linear = _film_sine(layer, xs[-1], scales)
        xs.append(y)
        linears.append(linear)
    return xs, linears


def _film_sine(layer: SineLayer, x: Tensor, scales: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """y, and the linear map in it."""
    linear = linear_map(x, layer.weight, layer.bias)
    return sine_of_linear(linear, layer.gamma, layer.beta, *scales), linear


def _film_sine_backward(
    grad_y: Tensor, layer: SineLayer, x: Tensor, linear: Tensor, scales: tuple[float, ...], grad_mask: int
) -> list[Tensor]:
    """Gradients of x, weight and bias, and of gamma and beta (where those are given and wanted)."""
    gamma_scale, gamma_offset, beta_scale = scales
    gradients = film_sine_backward(
        grad_y, x, *layer, gamma_scale=gamma_scale, gamma_offset=gamma_offset, beta_scale=beta_scale,
        linear=linear, grad_mask=grad_mask,
    )  # fmt: skip
    return list(gradients)  # type: ignore[arg-type]


def _apply(linear: Linear, x: Tensor) -> Tensor:
    return x @ linear.weight.T + linear.bias


def _apply_backward(grad_y: Tensor, linear: Linear, x: Tensor, grad_mask: int) -> tuple[Tensor, ...]:
    """Gradients of x, weight and bias, None where not wanted, as the masks of film_sine_backward have them."""
    gradients = (
        lambda: grad_y @ linear.weight,
        lambda: weight_gradient(grad_y, x, linear.weight.dim()),
        lambda: grad_y.sum((0, 1)),
    )
    return select_gradients(gradients, (x, *linear), grad_mask)  # type: ignore[return-value]


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
