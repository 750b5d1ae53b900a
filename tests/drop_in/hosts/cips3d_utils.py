"""CIPS-3D's rendering functions: pi-GAN's with a number of channels."""

import torch
import torch.nn.functional as F

from tests.drop_in.hosts.common_rendering import sample_pdf as _formula
from tests.drop_in.hosts.common_rendering import transmittance

CALLS = []


def fancy_integration(
    rgb_sigma,
    z_vals,
    device,
    dim_rgb=3,
    noise_std=0.5,
    last_back=False,
    white_back=False,
    clamp_mode=None,
    fill_mode=None,
):
    CALLS.append("fancy_integration")
    rgb, sigma = rgb_sigma[..., :dim_rgb], rgb_sigma[..., dim_rgb:]
    delta = z_vals[:, :, 1:] - z_vals[:, :, :-1]
    delta = torch.cat([delta, torch.full_like(delta[:, :, :1], 1e10)], -2)
    noise = torch.randn(sigma.shape, device=device) * noise_std
    assert clamp_mode in ("softplus", "relu"), "CIPS-3D: Need to choose clamp mode"
    alpha = 1 - torch.exp(-delta * (F.softplus if clamp_mode == "softplus" else F.relu)(sigma + noise))
    weights = alpha * transmittance(alpha, 2)
    total = weights.sum(2)
    if last_back:
        weights[:, :, -1] += 1 - total
    pixels, depth = (weights * rgb).sum(-2), (weights * z_vals).sum(-2)
    if white_back:
        pixels = pixels + 1 - total
    if fill_mode == "weight":
        pixels = total.expand_as(pixels)
    return pixels, depth, weights


def sample_pdf(bins, weights, N_importance, det=False, eps=1e-5):
    CALLS.append("sample_pdf")
    return _formula(bins, weights, N_importance, det, eps)
