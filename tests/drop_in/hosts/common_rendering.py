"""The formulas that the hosts share, written step by step as all of them compute them."""

import torch
import torch.nn.functional as F


def transmittance(alpha, axis):
    """prod_{j<i} (1 - alpha_j + 1e-10)."""
    passed = 1 - alpha + 1e-10
    first = torch.ones_like(alpha.narrow(axis, 0, 1))
    return torch.cumprod(torch.cat([first, passed], axis), axis).narrow(axis, 0, alpha.shape[axis])


def integrate(rgb_sigma, channels, z_vals, device, noise_std, last_back, white_back, clamp_mode, fill_mode):
    """fancy_integration of pi-GAN and CIPS-3D, which differ in the number of channels."""
    rgb, sigma = rgb_sigma[..., :channels], rgb_sigma[..., channels:]
    delta = z_vals[:, :, 1:] - z_vals[:, :, :-1]
    delta = torch.cat([delta, torch.full_like(delta[:, :, :1], 1e10)], -2)
    noise = torch.randn(sigma.shape, device=device) * noise_std
    alpha = 1 - torch.exp(-delta * (F.softplus if clamp_mode == "softplus" else F.relu)(sigma + noise))
    weights = alpha * transmittance(alpha, 2)
    total = weights.sum(2)
    if last_back:
        weights[:, :, -1] += 1 - total
    pixels, depth = (weights * rgb).sum(-2), (weights * z_vals).sum(-2)
    if white_back:
        pixels = pixels + 1 - total
    if fill_mode == "debug":
        pixels[total.squeeze(-1) < 0.9] = torch.tensor([1.0, 0, 0], device=pixels.device)
    elif fill_mode == "weight":
        pixels = total.expand_as(pixels)
    return pixels, depth, weights


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
