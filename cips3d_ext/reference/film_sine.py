"""FiLM-modulated sine layer: sin(g * (x W^T + bias) + h), with g, h per sample and channel.

Source: pi-GAN (arXiv 2012.00926) `FiLMLayer`, CIPS-3D (arXiv 2110.09788) `FiLMLayer` (g = 15 gamma + 30), StyleSDF
`FiLMSiren` (h = 0.25 beta). Axes: B batch, N points, I in, O out.
"""

import torch
from torch import Tensor

from ._gradients import ALL_GRADIENTS, select_gradients
from ._precision import widen
from ._products import linear_map, weight_gradient


def film_sine(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    gamma_scale: float = 1.0,
    gamma_offset: float = 0.0,
    beta_scale: float = 1.0,
    reduced_precision: bool = False,
) -> Tensor:
    """y = sin(g * (x W^T + bias) + h).

    g = gamma_scale * gamma + gamma_offset, or 1 without gamma; h = beta_scale * beta, or 0 without beta.
    x [B,N,I], weight [O,I], bias [O], gamma and beta [B,O] -> y [B,N,O] in the dtype of x. Phases are in rad.
    reduced_precision is a permission for kernels; nothing is rounded here.
    """
    linear = linear_map(widen(x), widen(weight), widen(bias))
    return sine_of_linear(linear, gamma, beta, gamma_scale, gamma_offset, beta_scale).to(x.dtype)


def sine_of_linear(
    linear: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    gamma_scale: float,
    gamma_offset: float,
    beta_scale: float,
) -> Tensor:
    """film_sine from linear = x W^T + bias [B,N,O], in its type."""
    frequency, phase = _film(widen(gamma), widen(beta), gamma_scale, gamma_offset, beta_scale)
    return torch.sin(_phase_argument(linear, frequency, phase))


def film_sine_backward(
    grad_y: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    gamma_scale: float = 1.0,
    gamma_offset: float = 0.0,
    beta_scale: float = 1.0,
    reduced_precision: bool = False,
    linear: Tensor | None = None,
    grad_mask: int = ALL_GRADIENTS,
) -> tuple[Tensor | None, ...]:
    """Gradients of x, weight, bias, gamma and beta from grad_y [B,N,O].

    All follow from that of the sine's argument, grad_y * cos(argument). linear: x W^T + bias, if it is known.
    """
    wide_x, wide_weight = widen(x), widen(weight)
    linear = linear_map(wide_x, wide_weight, widen(bias), linear)
    frequency, phase = _film(widen(gamma), widen(beta), gamma_scale, gamma_offset, beta_scale)
    grad_argument = widen(grad_y) * torch.cos(_phase_argument(linear, frequency, phase))

    grad_linear = grad_argument if frequency is None else grad_argument * frequency
    gradients = (
        lambda: grad_linear @ wide_weight,
        lambda: weight_gradient(grad_linear, wide_x, weight.dim()),
        lambda: grad_linear.sum((0, 1)),
        lambda: gamma_scale * (grad_argument * linear).sum(1),
        lambda: beta_scale * grad_argument.sum(1),
    )
    return select_gradients(gradients, (x, weight, bias, gamma, beta), grad_mask)


def _film(
    gamma: Tensor | None, beta: Tensor | None, gamma_scale: float, gamma_offset: float, beta_scale: float
) -> tuple[Tensor | None, Tensor | None]:
    """Frequency g and phase h, [B,1,O] each, None where absent."""
    frequency = None if gamma is None else (gamma_scale * gamma + gamma_offset).unsqueeze(1)
    phase = None if beta is None else (beta_scale * beta).unsqueeze(1)
    return frequency, phase


def _phase_argument(linear: Tensor, frequency: Tensor | None, phase: Tensor | None) -> Tensor:
    """The sine's argument g * linear + h."""
    if frequency is not None and phase is not None:
        return torch.addcmul(phase, frequency, linear)  # one pass over [B,N,O]
    argument = linear if frequency is None else frequency * linear
    return argument if phase is None else argument + phase
