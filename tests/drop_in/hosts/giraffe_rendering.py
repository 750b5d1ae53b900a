"""GIRAFFE's generator: volume weights as a method."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.drop_in.hosts.common_rendering import transmittance

CALLS = []


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.decoder = nn.Linear(1, 5)

    def forward(self, di, ray_vector):
        out = self.decoder(di.unsqueeze(-1))
        sigma, feat = out[..., 0], out[..., 1:]
        sigma = sigma + torch.randn_like(sigma)
        weights = self.calc_volume_weights(di, ray_vector, F.relu(sigma))
        alpha = self.calc_volume_weights(di, ray_vector, sigma, last_dist=0.0).sum(-1, keepdim=True)
        return torch.cat([(weights.unsqueeze(-1) * feat).sum(-2), alpha], -1)

    def calc_volume_weights(self, z_vals, ray_vector, sigma, last_dist=1e10):
        CALLS.append("calc_volume_weights")
        dists = z_vals[..., 1:] - z_vals[..., :-1]
        dists = torch.cat([dists, torch.full_like(z_vals[..., :1], last_dist)], -1)
        dists = dists * torch.norm(ray_vector, dim=-1, keepdim=True)
        alpha = 1 - torch.exp(-F.relu(sigma) * dists)
        return alpha * transmittance(alpha, 2)
