"""VolumeGAN's renderer: plain objects that call functions of their modules, and the gather from a feature volume."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.drop_in.hosts.common_rendering import sample_pdf as _formula
from tests.drop_in.hosts.common_rendering import transmittance

CALLS = []


def renderer(
    rgbs,
    sigmas,
    pts_z,
    noise_std,
    last_back=False,
    white_back=False,
    clamp_mode=None,
    render_mode=None,
    fill_mode=None,
    max_depth=None,
    num_per_group=None,
):
    CALLS.append("renderer")
    leading, steps, channels = rgbs.shape[:-2], rgbs.shape[-2], rgbs.shape[-1]
    rgbs, sigmas, pts_z = (t.reshape(t.shape[0], -1, *t.shape[-2:]) for t in (rgbs, sigmas, pts_z))
    num_per_group = steps if num_per_group is None else num_per_group
    deltas = pts_z[:, :, 1:] - pts_z[:, :, :-1]
    last = 1e10 * torch.ones_like(deltas[:, :, :1]) if max_depth is None else max_depth - pts_z[:, :, -1:]
    deltas = torch.cat([deltas, last], -2)
    if render_mode == "no_dist":
        deltas[:] = 1
    raw = sigmas + torch.randn(sigmas.shape, device=sigmas.device) * noise_std
    if clamp_mode == "softplus":
        density = F.softplus(raw)
    elif clamp_mode == "relu":
        density = F.relu(raw)
    elif clamp_mode == "mipnerf":
        density = F.softplus(raw - 1)
    else:
        raise ValueError(f"VolumeGAN: Invalid clamping mode: `{clamp_mode}`!")
    alpha = 1 - torch.exp(-deltas * density)
    starts = transmittance(alpha, 2)[:, :, ::num_per_group]
    weights = alpha * transmittance(alpha, 2)
    total = weights.sum(2)
    if last_back:
        weights[:, :, -1] += 1 - total
    rgb, depth = (weights * rgbs).sum(-2), (weights * pts_z).sum(-2)
    if white_back:
        rgb = rgb + 1 - total
    if fill_mode == "debug":
        rgb[total.squeeze(-1) < 0.9] = torch.tensor([1.0, 0, 0, 0], device=rgbs.device)
    elif fill_mode == "weight":
        rgb = total.expand_as(rgb)
    return {
        "rgb": rgb.reshape(*leading, channels),
        "depth": depth.reshape(*leading, 1),
        "weights": weights.reshape(*leading, steps, 1),
        "alphas": starts.reshape(*leading, 1),
    }


class Settings:
    def __init__(self, **settings):
        self.settings = settings


class Renderer(Settings):
    def __call__(self, rgbs, sigmas, pts_z, noise_std, **kwargs):
        return renderer(rgbs=rgbs, sigmas=sigmas, pts_z=pts_z, noise_std=noise_std, **{**self.settings, **kwargs})


class HierarchicalSampling(Settings):
    def __call__(self, coarse_rgbs, coarse_sigmas, pts_z, noise_std=0.5):
        leading, steps = pts_z.shape[:-2], pts_z.shape[-2]
        found = renderer(rgbs=coarse_rgbs, sigmas=coarse_sigmas, pts_z=pts_z, noise_std=noise_std, **self.settings)
        weights = found["weights"].reshape(-1, steps) + 1e-5
        z = pts_z.reshape(-1, steps)
        fine = self.sample_pdf(0.5 * (z[:, :-1] + z[:, 1:]), weights[:, 1:-1], steps, det=False)
        return fine.detach().reshape(*leading, steps, 1)

    def sample_pdf(self, bins, weights, N_importance, det=False, eps=1e-5):
        CALLS.append("sample_pdf")
        return _formula(bins, weights, N_importance, det, eps)


def get_grid_coords(points, bounds):
    low, high = bounds[None][:, :1], bounds[None][:, 1:]
    return (points - low) / (high - low) * 2 - 1


def grid_sample_3d(image, optical):
    """Eight gathers, twice differentiable on every version of PyTorch."""
    CALLS.append("grid_sample_3d")
    B, C, *sizes = image.shape
    _, D, H, W, _ = optical.shape
    position = [(optical[..., i] + 1) / 2 * (sizes[2 - i] - 1) for i in range(3)]
    low = [p.detach().floor() for p in position]
    flat, result = image.reshape(B, C, -1), 0
    for corner in range(8):
        weight, index = 1, 0
        for i in (2, 1, 0):
            upper = corner >> i & 1
            fraction = position[i] - low[i]
            weight = weight * (fraction if upper else 1 - fraction)
            index = index * sizes[2 - i] + (low[i] + upper).clamp(0, sizes[2 - i] - 1).long()
        gathered = flat.gather(2, index.reshape(B, 1, -1).expand(-1, C, -1)).reshape(B, C, D, H, W)
        result = result + gathered * weight.unsqueeze(1)
    return result


def interpolate_feature(points, volume, bounds):
    CALLS.append("interpolate_feature")
    return grid_sample_3d(volume, get_grid_coords(points, bounds)[:, None, None])[:, :, 0, 0]


class NeRFSynthesisNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.volume = nn.Parameter(torch.randn(1, 4, 3, 4, 5))
        self.out = nn.Linear(4, 5)

    def forward(self, points):
        B, H, W, S, _ = points.shape
        bounds = torch.tensor([[-0.9, -1.0, -1.1], [1.0, 1.2, 1.1]]).to(points)
        found = interpolate_feature(points.reshape(B, -1, 3), self.volume.expand(B, -1, -1, -1, -1), bounds)
        return self.out(found.transpose(1, 2)).reshape(B, H, W, S, 5)


class Generator(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.nerf = NeRFSynthesisNetwork()
        settings = {"clamp_mode": "mipnerf", **settings}
        self.renderer, self.hierarchical = Renderer(**settings), HierarchicalSampling(**settings)

    def forward(self, pts_z):
        out = self.nerf((pts_z - 1) * torch.tensor([0.5, -0.7, 0.9]))
        fine = self.hierarchical(out[..., 1:], out[..., :1], pts_z)
        out = self.nerf((fine - 1) * torch.tensor([0.5, -0.7, 0.9]))
        return self.renderer(out[..., 1:], out[..., :1], fine, noise_std=0)["rgb"]
