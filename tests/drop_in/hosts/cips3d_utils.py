"""CIPS-3D's rendering functions: pi-GAN's with a number of channels."""

from tests.drop_in.hosts.common_rendering import integrate
from tests.drop_in.hosts.common_rendering import sample_pdf as _formula

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
    assert clamp_mode in ("softplus", "relu"), "CIPS-3D: Need to choose clamp mode"
    return integrate(rgb_sigma, dim_rgb, z_vals, device, noise_std, last_back, white_back, clamp_mode, fill_mode)


def sample_pdf(bins, weights, N_importance, det=False, eps=1e-5):
    CALLS.append("sample_pdf")
    return _formula(bins, weights, N_importance, det, eps)
