"""A FiLM-SIREN field layer by layer, its sine layers given: eager PyTorch's in any dtype, or what the kernels with
bfloat16 dot products compute, in float64 but for their roundings."""

import torch
from torch import Tensor

from cips3d_ext import reference


def eager_layer(x: Tensor, weight: Tensor, bias: Tensor, g: Tensor, h: Tensor) -> Tensor:
    return torch.sin(g[:, None] * (x @ weight.T + bias) + h[:, None])


class RoundedLayer(torch.autograd.Function):
    """The output is rounded to bfloat16, and the gradients that products multiply: grad_phase, for the sum over points
    that gives weight's and g's, and g grad_phase, for x's. The first layer's (three inputs) are not."""

    @staticmethod
    def forward(ctx, x, weight, bias, g, h):
        phase = g[:, None] * (x @ weight.T + bias) + h[:, None]
        ctx.save_for_backward(x, weight, bias, g, phase)
        return rounded(phase.sin())

    @staticmethod
    def backward(ctx, grad_y):
        x, weight, bias, g, phase = ctx.saved_tensors
        operand = rounded if x.shape[-1] != reference.COORDINATES else lambda t: t
        grad_phase = grad_y * phase.cos()
        sums = operand(grad_phase).mT @ x  # [B,O,I]
        grad_h = grad_phase.sum(1)
        return (
            operand(grad_phase * g[:, None]) @ weight,
            (g[..., None] * sums).sum(0),
            (g * grad_h).sum(0),
            (sums * weight).sum(-1) + bias * grad_h,
            grad_h,
        )


def rounded(x: Tensor) -> Tensor:
    return x.bfloat16().double()


class RoundedGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return rounded(grad)


def siren_chain(layer, points, parameters, gamma, beta, directions, *, widths, colour_width, features, **scales):
    """`reference.siren_field`, gamma and beta given, in the dtype of its arguments.

    layer(x, weight, bias, g, h) is a sine layer; g and h [B,O].
    """
    shapes = reference.siren_field_shapes(widths, colour_width, features, directions is not None)
    flat = parameters.split([count for O, I in shapes for count in (O * I, O)])
    maps = [(weight.reshape(shape), bias) for weight, bias, shape in zip(flat[::2], flat[1::2], shapes, strict=True)]
    sizes = [*widths, colour_width]
    g = (scales["gamma_scale"] * gamma + scales["gamma_offset"]).split(sizes, -1)
    h = (scales["beta_scale"] * beta).split(sizes, -1)

    x = scales["point_scale"] * points
    for k in range(len(widths)):
        x = layer(x, *maps[k], g[k], h[k])
    weight, bias = maps[len(widths)]
    density = (x @ weight.T + bias)[..., 0]
    if colour_width:
        if directions is not None:
            per_ray = x.shape[1] // max(directions.shape[1], 1)
            x = torch.cat([directions.repeat_interleave(per_ray, 1), x], -1)
        x = layer(x, *maps[-2], g[-1], h[-1])
    weight, bias = maps[-1]
    return x @ weight.T + bias, density


def eager_field(*tensors: Tensor, **options) -> tuple[Tensor, Tensor]:
    return siren_chain(eager_layer, *tensors, **options)


def rounded_field(*tensors: Tensor, **options) -> tuple[Tensor, Tensor]:
    """With RoundedLayer; the features' gradient is an operand too."""
    features, density = siren_chain(RoundedLayer.apply, *tensors, **options)
    return RoundedGradient.apply(features), density


def rounded_field_backward(grad_features, grad_density, *tensors, grad_mask, **options):
    """All gradients, whatever is asked for; None for those of absent tensors."""
    leaves = [None if t is None else t.detach().requires_grad_() for t in tensors]
    present = [leaf for leaf in leaves if leaf is not None]
    with torch.enable_grad():
        outputs = rounded_field(*leaves, **options)
    grads = iter(torch.autograd.grad(outputs, present, (grad_features, grad_density), materialize_grads=True))
    return [None if leaf is None else next(grads) for leaf in leaves]
