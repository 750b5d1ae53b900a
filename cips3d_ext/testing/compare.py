"""Comparisons with tolerances that belong to a dtype and say why."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tolerance:
    """Largest error of any entry, relative to the largest entry of the expected tensor."""

    value: float
    reason: str


TOLERANCES = {
    torch.float64: Tolerance(1e-10, "sums of a few hundred terms and sin of arguments up to 1e3, 2^-53 each"),
    torch.float32: Tolerance(2e-5, "two orders of summation of a few hundred terms at 2^-24, times a frequency of 30"),
    torch.bfloat16: Tolerance(
        1.6e-2, "summed in float32; the result, and for modfc the operands of its products, rounded: 2^-9 each"
    ),
    torch.float16: Tolerance(
        2e-3, "computed in float32, rounded once: 2^-12, and more where inputs of a sum are rounded"
    ),
}

# Relative error of a number rounded to float16's 11 bits, rms: 2^-10 / sqrt(12) of its power of two, over a mantissa
# that is log-uniform in [1, 2), whose rms inverse is 0.74.
ROUNDING_OF_FLOAT16 = 2**-10 / 12**0.5 * 0.74
SIGMAS = 4  # 6 entries in 100,000 are beyond; a case has a few thousand


def rounded_products(roundings: int) -> Tolerance:
    """Of a chain of products with so many factors rounded to float16, each by itself."""
    value = SIGMAS * ROUNDING_OF_FLOAT16 * roundings**0.5
    return Tolerance(value, f"{SIGMAS} sigma of {roundings} factors rounded to 11 bits, one after the other")


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """max |actual - expected| / max |expected|, in float64; the plain error where expected is 0 everywhere."""
    if actual.shape != expected.shape:
        raise AssertionError(f"shape {list(actual.shape)} where {list(expected.shape)} is expected")
    if actual.numel() == 0:
        return 0.0
    actual, expected = actual.detach().double(), expected.detach().to(actual.device).double()
    if not torch.equal(actual.isfinite(), expected.isfinite()):
        raise AssertionError("not finite in other places than expected")
    finite = expected.isfinite()
    if not finite.any():
        return 0.0
    scale = expected[finite].abs().max().item()
    return (actual[finite] - expected[finite]).abs().max().item() / (scale or 1.0)


def assert_close(actual: Tensor, expected: Tensor, dtype: torch.dtype, what: str, roundings: int = 0) -> None:
    """Raises AssertionError unless the relative error is within the tolerance of dtype, or the plain error at most the
    smallest step of dtype near 0 (transmittances behind many samples are that small). `roundings` is for kernels on
    tensor cores: the operands that float16 inputs have rounded in a row, where that allows for more."""
    error, tolerance = relative_error(actual, expected), TOLERANCES[dtype]
    if dtype == torch.float16:
        tolerance = max(tolerance, rounded_products(roundings), key=lambda candidate: candidate.value)
    step = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    if error > tolerance.value and (actual.double() - expected.double()).abs().max().item() > step:
        raise AssertionError(f"{what}: relative error {error:.2e} > {tolerance.value:.1e} ({tolerance.reason})")
