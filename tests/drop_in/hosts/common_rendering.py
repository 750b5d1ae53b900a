"""The formulas that the hosts share, written step by step as all of them compute them."""

import torch


def transmittance(alpha, axis):
    """prod_{j<i} (1 - alpha_j + 1e-10)."""
    passed = 1 - alpha + 1e-10
    first = torch.ones_like(alpha.narrow(axis, 0, 1))
    return torch.cumprod(torch.cat([first, passed], axis), axis).narrow(axis, 0, alpha.shape[axis])


def sample_pdf(bins, weights, N_importance, det=False, eps=1e-5, right=False):
    rays, count = weights.shape
    weights = weights + eps
    cdf = torch.cumsum(weights / weights.sum(-1, keepdim=True), -1)
    cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf], -1)
    if det:
        u = torch.linspace(0, 1, N_importance, device=bins.device).expand(rays, N_importance).contiguous()
    else:
        u = torch.rand(rays, N_importance, device=bins.device)
    found = torch.searchsorted(cdf, u, right=right)
    below, above = (found - 1).clamp_min(0), found.clamp_max(count)
    width = cdf.gather(1, above) - cdf.gather(1, below)
    width = torch.where(width < eps, torch.ones_like(width), width)
    low, high = bins.gather(1, below), bins.gather(1, above)
    return low + (u - cdf.gather(1, below)) / width * (high - low)
