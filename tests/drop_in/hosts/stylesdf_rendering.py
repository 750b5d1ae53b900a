"""StyleSDF's renderer (a method) and CIPS-3D++'s (a static method of a class that is called by its name)."""

import torch
import torch.nn.functional as F
from torch import autograd, nn

from tests.drop_in.hosts.common_rendering import transmittance

CALLS = []


class VolumeFeatureRenderer(nn.Module):
    def __init__(self, with_sdf=True, force_background=False, output_features=True, raw_noise_std=0.0, return_xyz=True):
        super().__init__()
        self.with_sdf, self.force_background = with_sdf, force_background
        self.output_features, self.raw_noise_std, self.return_xyz = output_features, raw_noise_std, return_xyz
        self.return_sdf, self.samples_dim, self.channel_dim, self.feature_out_size = True, 3, -1, 6
        if with_sdf:
            self.sigmoid_beta = nn.Parameter(0.1 * torch.ones(1))
        self.register_buffer("inf", torch.tensor([1e10]), persistent=False)
        self.register_buffer("zero_idx", torch.tensor([0]), persistent=False)
        self.network = nn.Linear(3, 10 if output_features else 4)

    def sdf_activation(self, value):
        return torch.sigmoid(value / self.sigmoid_beta) / self.sigmoid_beta

    def get_eikonal_term(self, pts, sdf):
        return autograd.grad(sdf, pts, torch.ones_like(sdf), create_graph=True)[0]

    def volume_integration(self, raw, z_vals, rays_d, pts, return_eikonal=False):
        CALLS.append("volume_integration")
        dists = z_vals[..., 1:] - z_vals[..., :-1]
        norm = torch.norm(rays_d.unsqueeze(self.samples_dim), dim=self.channel_dim)
        dists = torch.cat([dists, self.inf.expand(norm.shape)], -1) * norm
        if self.output_features:
            rgb, sdf, features = torch.split(raw, [3, 1, self.feature_out_size], dim=-1)
        else:
            rgb, sdf = torch.split(raw, [3, 1], dim=-1)
        noise = torch.randn_like(sdf) * self.raw_noise_std if self.raw_noise_std > 0 else 0.0
        eikonal = self.get_eikonal_term(pts, sdf) if self.with_sdf and return_eikonal else None
        density = self.sdf_activation(-sdf) if self.with_sdf else F.softplus(sdf + noise)
        alpha = 1 - torch.exp(-density * dists.unsqueeze(-1))
        weights = alpha * transmittance(alpha, 3)
        if self.force_background:
            weights[..., -1, :] = 1 - weights[..., :-1, :].sum(3)
        rgb_map = -1 + 2 * (weights * torch.sigmoid(rgb)).sum(3)
        feature_map = (weights * features).sum(3) if self.output_features else None
        xyz = (weights * pts).sum(3) if self.return_xyz else None
        mask = weights[..., -1, :] if self.return_xyz else None
        return rgb_map, feature_map, sdf if self.return_sdf else None, mask, xyz, eikonal

    def forward(self, z_vals, rays_d, return_eikonal=False):
        """z_vals [B,H,W,S], rays_d [B,H,W,3]."""
        pts = rays_d.unsqueeze(3) * z_vals.unsqueeze(-1)
        if return_eikonal:
            pts = pts.detach().requires_grad_()
        raw = torch.sin(3 * self.network(pts))
        return self.volume_integration(raw, z_vals, rays_d, pts, return_eikonal=return_eikonal)


class Render:
    @staticmethod
    def get_eikonal_term(pts, sdf):
        return autograd.grad(sdf, pts, torch.ones_like(sdf), create_graph=True)[0]

    @staticmethod
    def volume_integration(
        rgb,
        sdf,
        features,
        z_vals,
        rays_d,
        pts,
        with_sdf=True,
        sigmoid_beta=None,
        return_eikonal=False,
        raw_noise_std=0.0,
        force_background=False,
    ):
        CALLS.append("Render.volume_integration")
        norm = torch.norm(rays_d, dim=-1, keepdim=True)
        dists = (
            torch.cat([z_vals[..., 1:] - z_vals[..., :-1], torch.tensor([1e10]).to(norm).expand_as(norm)], -1) * norm
        )
        eikonal = Render.get_eikonal_term(pts, sdf) if with_sdf and return_eikonal else None
        if with_sdf:
            density = torch.sigmoid(-sdf / sigmoid_beta) / sigmoid_beta
        else:
            density = F.softplus(sdf + (torch.randn_like(sdf) * raw_noise_std if raw_noise_std > 0 else 0.0))
        alpha = 1 - torch.exp(-density * dists.unsqueeze(-1))
        weights = alpha * transmittance(alpha, alpha.dim() - 2)
        if force_background:
            weights[..., -1, :] = 1 - weights[..., :-1, :].sum(-2)
        rgb_map = -1 + 2 * (weights * torch.sigmoid(rgb)).sum(-2)
        feature_map = None if features is None else (weights * features).sum(-2)
        xyz = (weights * pts).sum(-2)
        mask = torch.cat([weights[..., -1, :], -xyz.norm(dim=-1, keepdim=True)], -1)
        return rgb_map, feature_map, xyz, mask, eikonal


class NeRFPlusPlus(nn.Module):
    """CIPS-3D++'s way: Render.volume_integration by the name of the class."""

    def __init__(self):
        super().__init__()
        self.sigmoid_beta = nn.Parameter(0.1 * torch.ones(1))
        self.network = nn.Linear(3, 10)

    def forward(self, z_vals, rays_d):
        pts = (rays_d.unsqueeze(-2) * z_vals.unsqueeze(-1)).requires_grad_()
        rgb, sdf, features = torch.sin(3 * self.network(pts)).split([3, 1, 6], -1)
        return Render.volume_integration(
            rgb=rgb,
            sdf=sdf,
            features=features,
            z_vals=z_vals,
            rays_d=rays_d,
            pts=pts,
            sigmoid_beta=self.sigmoid_beta,
            return_eikonal=True,
        )
