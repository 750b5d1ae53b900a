"""sample_pdf's CPU kernels at each SIMD level."""

import pytest
import torch

from cips3d_ext import reference

# (P, W, K, n): one weight, rows around the vectors, more bin edges than W + 1 (EG3D), no rays, no samples.
SIZES = [(3, 1, 2, 3), (5, 10, 11, 12), (33, 17, 18, 16), (7, 45, 47, 48), (130, 3, 9, 1), (0, 4, 5, 6), (4, 4, 5, 0)]
# Dividing by a narrow interval of the cdf (eps = 1e-2 here) magnifies rounding; half types round the depth.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def draw(P: int, W: int, K: int, n: int, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(W)
    bins = 0.88 + 0.24 * torch.rand(P, K, generator=generator, dtype=torch.float64).sort(-1).values
    weights = torch.rand(P, W, generator=generator, dtype=torch.float64) ** 4  # many are close to zero
    u = torch.rand(P, n, generator=generator, dtype=torch.float64)
    return [tensor.to(dtype) for tensor in (bins, weights, u)]


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equals_reference(cpu_level, size, dtype, right):
    tensors = draw(*size, dtype)
    found = torch.ops.cips3d_ext.sample_pdf(*tensors, 1e-2, right)
    wanted = reference.sample_pdf(*(t.double() for t in tensors), eps=1e-2, right=right)
    assert found.dtype == dtype and found.is_contiguous()
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("right", [False, True])
def test_ties_and_ends(cpu_level, right):
    """u on an entry of the cdf, 0 and 1; a cdf with exact steps of 1/4, and one with flat parts."""
    bins = torch.tensor([[0.0, 1, 3, 4, 8, 9], [0, 1, 2, 3, 4, 5]])
    weights = torch.tensor([[1.0, 1, 1, 1], [0, 1, 0, 1]])
    u = torch.tensor([[0.25, 1.0, 0.0, 0.75, 0.5], [0.0, 0.5, 1.0, 0.25, 0.75]])
    eps = 2.0**-30  # lost when added to 1; with 0 a tie at the end of the cdf would be 0 / 0
    found = torch.ops.cips3d_ext.sample_pdf(bins, weights, u, eps, right)
    assert torch.equal(found, reference.sample_pdf(bins, weights, u, eps=eps, right=right))


def test_no_weight_anywhere(cpu_level):
    """eps makes the distribution uniform over the bins, and nothing is divided by zero."""
    u = torch.linspace(0, 0.999, 9)[None]
    found = torch.ops.cips3d_ext.sample_pdf(torch.linspace(0, 1, 5)[None], torch.zeros(1, 4), u, 1e-5, False)
    torch.testing.assert_close(found, u)


def test_threads_give_the_same_bits(cpu_level, one_and_two_threads):
    tensors = draw(300, 9, 10, 7, torch.float32)
    results = []
    for threads in one_and_two_threads:
        torch.set_num_threads(threads)
        results.append(torch.ops.cips3d_ext.sample_pdf(*tensors, 1e-5, False))
    assert torch.equal(*results)
