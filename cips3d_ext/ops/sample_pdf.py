"""Importance sampling of depths by the inverse of a piecewise linear distribution (NeRF, arXiv 2003.08934, sec. 5.2).

    pdf = (weights + eps) / sum    cdf = [0, cumsum(pdf)]    depths = cdf^-1(u), linear between neighbouring bins

bins [*,K], weights [*,W], u [*,n] -> [*,n]. No input has a gradient (all hosts sample under no_grad). Under autocast it
computes and returns float32.
"""

from __future__ import annotations

import math

from torch import Tensor

from .. import reference
from ._autocast import autocast_to_float32
from ._checks import check_one_dtype, check_shape, check_tensors
from ._registry import OpSpec, call, register_without_gradient

SCHEMA = "sample_pdf(Tensor bins, Tensor weights, Tensor u, float eps, bool right) -> Tensor"


def _check(bins: Tensor, weights: Tensor, u: Tensor) -> None:
    for name, tensor in (("bins", bins), ("weights", weights), ("u", u)):
        if tensor.dim() < 1 or tensor.shape[:-1] != bins.shape[:-1]:
            leading = list(bins.shape[:-1])
            raise ValueError(f"sample_pdf: {name} must be {leading} + [size], got {list(tensor.shape)}")
    if weights.shape[-1] < 1 or bins.shape[-1] < weights.shape[-1] + 1:
        wanted = "at least one weight, and bins with at least one entry more than weights"
        raise ValueError(f"sample_pdf: needs {wanted}, got {bins.shape[-1]} bins and {weights.shape[-1]} weights")


def _fake(bins: Tensor, weights: Tensor, u: Tensor, eps: float, right: bool) -> Tensor:
    check_shape("sample_pdf", "bins", bins, "[P,K]", None, None)
    _check(bins, weights, u)
    return u.new_empty(u.shape)


register_without_gradient(OpSpec(name="sample_pdf", schema=SCHEMA, reference=reference.sample_pdf, fake=_fake))


def sample_pdf(
    bins: Tensor, weights: Tensor, n: int, *, u: Tensor, eps: float = 1e-5, right: bool = False, impl: str = "auto"
) -> Tensor:
    """n depths of each ray, distributed as weights over bins.

    Args:
        bins: bin edges [*,K], K >= W + 1; edges beyond W + 1 are not reached (EG3D gives one more).
        weights: [*,W]; eps is added to each (a host's own eps stays the host's).
        n: number of samples, the last size of u.
        u: uniform numbers in [0,1), [*,n], in any order; an op draws no random numbers.
        eps: also the smallest step of the cdf that is divided by; smaller ones count as 1.
        right: searchsorted(right=True), as EG3D.

    Returns: depths [*,n] in the order of u, without gradient.
    Raises: ValueError for wrong shapes, TypeError for dtypes, RuntimeError if impl="fused" is not possible.
    """
    check_tensors("sample_pdf", bins=bins, weights=weights, u=u)
    bins, weights, u = autocast_to_float32(bins.detach(), weights.detach(), u.detach())
    check_one_dtype("sample_pdf", bins=bins, weights=weights, u=u)
    _check(bins, weights, u)
    if u.shape[-1] != n:
        raise ValueError(f"sample_pdf: u must have n = {n} numbers a ray, got {list(u.shape)}")
    rays = math.prod(u.shape[:-1])
    flat = tuple(tensor.reshape(rays, tensor.shape[-1]) for tensor in (bins, weights, u))
    return call("sample_pdf", impl, flat, (eps, right)).reshape(u.shape)
