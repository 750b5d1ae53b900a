"""CIPS-3D's way to call its rendering functions: as attributes of a module, from a base class and a static method."""

import torch
from torch import nn

from tests.drop_in.hosts import cips3d_utils


class GeneratorBase(nn.Module):
    def fine_depths(self, coarse, z_vals, dim_rgb):
        B, R, S, _ = z_vals.shape
        _, _, weights = cips3d_utils.fancy_integration(
            rgb_sigma=coarse, z_vals=z_vals, device=coarse.device, dim_rgb=dim_rgb, clamp_mode="relu", noise_std=0.0
        )
        weights = weights.reshape(B * R, S) + 1e-5
        z = z_vals.reshape(B * R, S)
        mid = 0.5 * (z[:, :-1] + z[:, 1:])
        return cips3d_utils.sample_pdf(bins=mid, weights=weights[:, 1:-1], N_importance=S, det=False).reshape(
            B, R, S, 1
        )


class GeneratorNerfINR(GeneratorBase):
    def __init__(self, dim_rgb=8):
        super().__init__()
        self.dim_rgb = dim_rgb
        self.field = nn.Linear(1, dim_rgb + 1)

    def forward(self, z_vals):
        fine = self.fine_depths(self.field(z_vals), z_vals, self.dim_rgb)
        return self.integrate(self.field(fine), fine, self.dim_rgb)

    @staticmethod
    def integrate(rgb_sigma, z_vals, dim_rgb):
        device = torch.device("cpu")
        return [cips3d_utils.fancy_integration(rgb_sigma, z_vals, device, dim_rgb, clamp_mode="softplus")[0]][0]
