"""sample_pdf's and merge_samples' references against float64 loops."""

import pytest
import torch

from cips3d_ext.reference import merge_samples, merge_samples_gather, merge_samples_scatter, sample_pdf


def sample_pdf_loops(bins, weights, u, eps, right):
    P, W = weights.shape
    samples = torch.zeros_like(u)
    for p in range(P):
        w = [float(v) + eps for v in weights[p]]
        cdf = [0.0]
        for value in w:
            cdf.append(cdf[-1] + value / sum(w))
        for n in range(u.shape[1]):
            value = float(u[p, n])
            index = sum(edge <= value if right else edge < value for edge in cdf)
            below, above = max(index - 1, 0), min(index, W)
            width = cdf[above] - cdf[below]
            width = 1.0 if width < eps else width
            low, high = float(bins[p, below]), float(bins[p, above])
            samples[p, n] = low + (value - cdf[below]) / width * (high - low)
    return samples


@pytest.mark.parametrize("extra_bins", [1, 2])
@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("eps", [1e-5, 0.05])
def test_sample_pdf_is_the_formula(extra_bins, right, eps):
    torch.manual_seed(0)
    bins = torch.rand(4, 6 + extra_bins, dtype=torch.float64).sort(-1).values
    weights = torch.rand(4, 6, dtype=torch.float64)
    weights[1, 1:] = 0.0  # all the mass in one bin, the others as narrow as eps
    weights[2] = 0.0
    u = torch.rand(4, 9, dtype=torch.float64)
    u[:, 0] = 0.0  # a tie with the first edge
    found = sample_pdf(bins, weights, u, eps=eps, right=right)
    torch.testing.assert_close(found, sample_pdf_loops(bins, weights, u, eps, right), rtol=1e-12, atol=1e-12)
    assert bool((found >= bins[:, :1]).all()) and bool((found <= bins[:, 6:7]).all())


def test_sample_pdf_sides_of_a_tie():
    bins = torch.tensor([[0.0, 1.0, 2.0]])
    weights = torch.tensor([[0.0, 3.5]])  # cdf 0, 1/16, 1: the first interval is narrower than eps, so taken as 1 wide
    u = torch.tensor([[0.0625]])
    assert sample_pdf(bins, weights, u, eps=0.25, right=False).item() == 0.0625
    assert sample_pdf(bins, weights, u, eps=0.25, right=True).item() == 1.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sample_pdf_half_types_and_no_gradient(dtype):
    torch.manual_seed(0)
    bins, weights, u = (
        torch.rand(3, 6).sort(-1).values.to(dtype),
        torch.rand(3, 5).to(dtype),
        torch.rand(3, 4).to(dtype),
    )
    found = sample_pdf(bins.requires_grad_(), weights.requires_grad_(), u)
    assert found.dtype == dtype and not found.requires_grad
    assert torch.equal(found, sample_pdf(bins.float(), weights.float(), u.float()).to(dtype))


def test_sample_pdf_without_rays_or_samples():
    assert sample_pdf(torch.rand(0, 4), torch.rand(0, 3), torch.rand(0, 5)).shape == (0, 5)
    assert sample_pdf(torch.rand(2, 4), torch.rand(2, 3), torch.rand(2, 0)).shape == (2, 0)


def test_merge_is_a_stable_sort():
    z_a = torch.tensor([[1.0, 3.0, 3.0], [2.0, 0.0, 5.0]])
    z_b = torch.tensor([[3.0, 1.0], [0.0, 9.0]])
    z, order = merge_samples(z_a, z_b)
    assert z.tolist() == [[1.0, 1.0, 3.0, 3.0, 3.0], [0.0, 0.0, 2.0, 5.0, 9.0]]
    assert order.tolist() == [[0, 4, 1, 2, 3], [1, 3, 0, 2, 4]]
    assert order.dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_gather_follows_the_order_and_scatter_undoes_it(dtype):
    torch.manual_seed(0)
    P, Sa, Sb, C = 3, 4, 2, 5
    _, order = merge_samples(torch.rand(P, Sa), torch.rand(P, Sb))
    a, b = torch.randn(P, Sa, C).to(dtype), torch.randn(P, Sb, C).to(dtype)
    merged = merge_samples_gather(a, b, order)
    for p in range(P):
        for s in range(Sa + Sb):
            source = int(order[p, s])
            assert torch.equal(merged[p, s], a[p, source] if source < Sa else b[p, source - Sa])
    back_a, back_b = merge_samples_scatter(merged, order, Sa)
    assert torch.equal(back_a, a) and torch.equal(back_b, b)
    assert back_a.is_contiguous() and back_b.is_contiguous()


def test_scatter_is_the_gradient_of_gather_and_is_differentiable():
    torch.manual_seed(0)
    _, order = merge_samples(torch.rand(2, 3), torch.rand(2, 2))
    a = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, 2, 4, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)
    expected = torch.autograd.grad(merge_samples_gather(a, b, order), (a, b), grad)
    found = merge_samples_scatter(grad, order, 3)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
    probes = (torch.randn_like(a), torch.randn_like(b))
    (second,) = torch.autograd.grad(found, grad, probes)
    assert torch.equal(second, merge_samples_gather(*probes, order))


def test_merge_of_nothing():
    z, order = merge_samples(torch.rand(0, 3), torch.rand(0, 2))
    assert z.shape == order.shape == (0, 5)
    z, order = merge_samples(torch.rand(2, 3), torch.rand(2, 0))
    assert merge_samples_gather(torch.rand(2, 3, 4), torch.rand(2, 0, 4), order).shape == (2, 3, 4)
