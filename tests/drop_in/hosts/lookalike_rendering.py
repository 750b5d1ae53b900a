"""Functions of a fork that are called as the known ones but are others."""

from torch import nn


def fancy_integration(rgb_sigma, z_vals, device, noise_std=0.5, last_back=False, white_back=False, clamp_mode=None):
    weights = rgb_sigma[..., 3:].softmax(2)
    return (weights * rgb_sigma[..., :3]).sum(2), (weights * z_vals).sum(2), weights


def sample_pdf(bins, weights, count):
    return bins


def renderer(rgbs, sigmas, pts_z, noise_std):
    raise AssertionError("a GPU is needed")


class Generator(nn.Module):
    def forward(self, rgb_sigma, z_vals):
        renderer(rgb_sigma, rgb_sigma, z_vals, 0.0)
        sample_pdf(z_vals, z_vals, 3)
        return fancy_integration(rgb_sigma, z_vals, None, clamp_mode="relu")
