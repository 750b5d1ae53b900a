"""EpiGRAF's functions, decorated as there, and a synthesis network that hands them to a function for chunks."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.drop_in.hosts.common_rendering import sample_pdf as _formula
from tests.drop_in.hosts.common_rendering import transmittance

CALLS = []


def profiled_function(function):
    """A decorator that hides what it decorates: no __wrapped__, no signature."""

    def decorator(*args, **kwargs):
        with torch.autograd.profiler.record_function(function.__name__):
            return function(*args, **kwargs)

    decorator.__name__ = function.__name__
    return decorator


@profiled_function
def fancy_integration(
    rgb_sigma,
    z_vals,
    noise_std=0.5,
    last_back=False,
    white_back_end_idx=0,
    clamp_mode=None,
    fill_mode=None,
    sp_beta=1.0,
    use_inf_depth=True,
):
    CALLS.append("fancy_integration")
    rgb, sigma = rgb_sigma[..., :-1], rgb_sigma[..., [-1]]
    deltas = z_vals[:, :, 1:] - z_vals[:, :, :-1]
    deltas = torch.cat([deltas, torch.full_like(deltas[:, :, [0]], 1e10 if use_inf_depth else 1e-3)], 2)
    if noise_std > 0:
        sigma = sigma + noise_std * torch.randn_like(sigma)
    if clamp_mode == "softplus":
        sigma = F.softplus(sigma, beta=sp_beta)
    elif clamp_mode == "relu":
        sigma = F.relu(sigma)
    else:
        raise NotImplementedError(f"EpiGRAF: Uknown clamp mode: {clamp_mode}")
    alpha = 1 - torch.exp(-deltas * sigma)
    through = transmittance(alpha, 2)
    weights = alpha * through
    total = weights.sum(2)
    if last_back:
        weights[:, :, -1] += 1 - total
    feats, depth = (weights * rgb).sum(2), (weights * z_vals).sum(2)
    if white_back_end_idx > 0:
        feats[:, :, :white_back_end_idx] = feats[:, :, :white_back_end_idx] + 1 - total
    if fill_mode == "debug":
        red = torch.zeros_like(feats[0, 0])
        red[0] = 1
        feats[total.squeeze(-1) < 0.9] = red
    elif fill_mode == "weight":
        feats = total.expand_as(feats)
    final = through[:, :, [-1], :].squeeze(3).squeeze(2)
    return {"rendered_feats": feats, "depth": depth, "weights": weights, "final_transmittance": final}


@profiled_function
def sample_pdf(bins, weights, N_importance, det=False, eps=1e-5):
    CALLS.append("sample_pdf")
    return _formula(bins, weights, N_importance, det, eps)


@profiled_function
def tri_plane_renderer(x, coords, ray_d_world, mlp, scale=1.0):
    CALLS.append("tri_plane_renderer")
    B, channels, H, W = x.shape
    N = coords.shape[1]
    coords = coords / scale
    grid = torch.stack([coords[..., [0, 1]], coords[..., [0, 2]], coords[..., [1, 2]]], 1).view(B * 3, 1, N, 2)
    x = F.grid_sample(x.view(B * 3, channels // 3, H, W), grid, mode="bilinear", align_corners=True)
    return mlp(x.view(B, 3, channels // 3, N).permute(0, 1, 3, 2), coords, ray_d_world)


def run_batchwise(fn, data, batch_size, dim, **kwargs):
    """fn on chunks of the data."""
    chunks = zip(*(value.split(batch_size, dim) for value in data.values()), strict=True)
    outs = [fn(**dict(zip(data, chunk, strict=True)), **kwargs) for chunk in chunks]
    if isinstance(outs[0], dict):
        return {key: torch.cat([out[key] for out in outs], dim) for key in outs[0]}
    return torch.cat(outs, dim)


class TriPlaneMLP(nn.Module):
    def __init__(self, channels=4, width=8):
        super().__init__()
        self.model = nn.Sequential(nn.Linear(channels, width), nn.LeakyReLU(0.2), nn.Linear(width, 4))

    def forward(self, x, coords, ray_d_world):
        B, _, N, F_ = x.shape
        return self.model(x.mean(dim=1).reshape(B * N, F_)).view(B, N, 4)


class SynthesisNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.planes = nn.Parameter(torch.randn(1, 12, 5, 6))
        self.tri_plane_mlp = TriPlaneMLP()
        self.nerf_noise_std = 0.3

    def forward(self, z_vals, **options):
        B, R, S, _ = z_vals.shape
        options = {"clamp_mode": "softplus", "noise_std": self.nerf_noise_std, "sp_beta": 2.0, **options}
        coarse = self.field(z_vals)
        weights = run_batchwise(fancy_integration, {"rgb_sigma": coarse, "z_vals": z_vals}, 2, 1, **options)["weights"]
        z = z_vals.reshape(B * R, S)
        weights = weights.reshape(B * R, S) + 1e-5
        fine = sample_pdf(0.5 * (z[:, :-1] + z[:, 1:]), weights[:, 1:-1], S, det=False).detach().reshape(B, R, S, 1)
        data = {"rgb_sigma": self.field(fine), "z_vals": fine}
        return run_batchwise(fancy_integration, data, 2, 1, white_back_end_idx=2, **options)

    def field(self, z_vals):
        B, R, S, _ = z_vals.shape
        points = ((z_vals - 1) * torch.tensor([0.5, -0.7, 0.9])).reshape(B, R * S, 3)
        planes = self.planes.expand(B, -1, -1, -1).contiguous()
        out = run_batchwise(
            tri_plane_renderer,
            {"coords": points},
            2 * S,
            1,
            mlp=self.tri_plane_mlp,
            x=planes,
            scale=1.2,
            ray_d_world=None,
        )
        return out.reshape(B, R, S, 4)
