"""pi-GAN's rendering functions and a generator that calls them as pi-GAN's does: by their names in its module."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.drop_in.hosts.common_rendering import integrate
from tests.drop_in.hosts.common_rendering import sample_pdf as _formula

CALLS = []  # names of the functions of this file that ran


def fancy_integration(
    rgb_sigma, z_vals, device, noise_std=0.5, last_back=False, white_back=False, clamp_mode=None, fill_mode=None
):
    CALLS.append("fancy_integration")
    if clamp_mode not in ("softplus", "relu"):
        raise TypeError("pi-GAN: Need to choose clamp mode")
    return integrate(rgb_sigma, 3, z_vals, device, noise_std, last_back, white_back, clamp_mode, fill_mode)


def sample_pdf(bins, weights, N_importance, det=False, eps=1e-5):
    CALLS.append("sample_pdf")
    return _formula(bins, weights, N_importance, det, eps)


def sample_from_3dgrid(coordinates, grid):
    CALLS.append("sample_from_3dgrid")
    B, N, _ = coordinates.shape
    grid = grid.float().expand(B, -1, -1, -1, -1)
    points = coordinates.float().reshape(B, 1, 1, N, 3)
    sampled = F.grid_sample(grid, points, mode="bilinear", padding_mode="zeros", align_corners=True)
    return sampled.permute(0, 4, 3, 2, 1).reshape(B, N, -1)


class EmbeddingSiren(nn.Module):
    def __init__(self, device=None):
        super().__init__()
        self.grid = nn.Parameter(0.5 * torch.randn(1, 4, 3, 4, 5))
        self.out = nn.Linear(4, 4)

    def forward(self, points):
        return self.out(sample_from_3dgrid(points, self.grid))


class BaseGenerator(nn.Module):
    def __init__(self):
        super().__init__()
        self.siren = EmbeddingSiren()
        self.device = torch.device("cpu")


class ImplicitGenerator3d(BaseGenerator):
    """Coarse pass, importance sampling, fine pass, as in pi-GAN's forward; the camera is left out."""

    def __init__(self):
        super().__init__()
        self.step = 0

    def forward(self, z_vals, hierarchical_sample=True, **kwargs):
        B, R, S, _ = z_vals.shape
        coarse = self.field(z_vals)
        if hierarchical_sample:
            with torch.no_grad():
                _, _, weights = fancy_integration(
                    coarse, z_vals, device=self.device, clamp_mode=kwargs["clamp_mode"], noise_std=kwargs["nerf_noise"]
                )
                weights = weights.reshape(B * R, S) + 1e-5
                z = z_vals.reshape(B * R, S)
                fine_z = sample_pdf(0.5 * (z[:, :-1] + z[:, 1:]), weights[:, 1:-1], S, det=False).detach()
                fine_z = fine_z.reshape(B, R, S, 1)
            both, z_vals = torch.cat([self.field(fine_z), coarse], 2), torch.cat([fine_z, z_vals], 2)
            z_vals, order = torch.sort(z_vals, 2)
            coarse = torch.gather(both, 2, order.expand(-1, -1, -1, 4))
        pixels, depth, _ = fancy_integration(
            coarse,
            z_vals,
            device=self.device,
            white_back=kwargs.get("white_back", False),
            last_back=kwargs.get("last_back", False),
            clamp_mode=kwargs["clamp_mode"],
            noise_std=kwargs["nerf_noise"],
        )
        return pixels * 2 - 1, depth

    def field(self, z_vals):
        """Points on lines through the grid: the same for all rays but for a shift."""
        B, R, S, _ = z_vals.shape
        shift = torch.linspace(-0.3, 0.3, R).reshape(1, R, 1, 1)
        points = (z_vals - 1) * torch.tensor([0.5, -0.7, 0.9]) + shift
        return self.siren(points.reshape(B, R * S, 3)).reshape(B, R, S, 4)

    @torch.no_grad()
    def staged_forward(self, z_vals, **kwargs):
        return [self.forward(part, **kwargs) for part in z_vals.split(1)]
