"""EG3D's renderer: ray marcher, importance sampling, planes, and a generator that puts them together."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.drop_in.hosts.common_rendering import sample_pdf as _formula
from tests.drop_in.hosts.common_rendering import transmittance

CALLS = []


def generate_planes():
    x, y, z = torch.eye(3)
    return torch.stack([torch.stack(plane) for plane in ((x, y, z), (x, z, y), (z, x, y))])


def project_onto_planes(planes, coordinates):
    B, N, _ = coordinates.shape
    P = len(planes)
    expanded = coordinates.unsqueeze(1).expand(-1, P, -1, -1).reshape(B * P, N, 3)
    inverse = torch.linalg.inv(planes).unsqueeze(0).expand(B, -1, -1, -1).reshape(B * P, 3, 3)
    return torch.bmm(expanded, inverse)[..., :2]


def sample_from_planes(plane_axes, plane_features, coordinates, mode="bilinear", padding_mode="zeros", box_warp=None):
    CALLS.append("sample_from_planes")
    assert padding_mode == "zeros"
    B, P, C, H, W = plane_features.shape
    N = coordinates.shape[1]
    grid = project_onto_planes(plane_axes, (2 / box_warp) * coordinates).unsqueeze(1)
    sampled = F.grid_sample(
        plane_features.view(B * P, C, H, W), grid.float(), mode=mode, padding_mode=padding_mode, align_corners=False
    )
    return sampled.permute(0, 3, 2, 1).reshape(B, P, N, C)


class MipRayMarcher2(nn.Module):
    def run_forward(self, colors, densities, depths, rendering_options):
        CALLS.append("run_forward")
        deltas = depths[:, :, 1:] - depths[:, :, :-1]
        color, density, depth = ((t[:, :, :-1] + t[:, :, 1:]) / 2 for t in (colors, densities, depths))
        assert rendering_options["clamp_mode"] == "softplus", "MipRayMarcher only supports `clamp_mode`=`softplus`!"
        alpha = 1 - torch.exp(-F.softplus(density - 1) * deltas)
        weights = alpha * transmittance(alpha, 2)
        total = weights.sum(2)
        rgb = (weights * color).sum(-2)
        expected = torch.nan_to_num((weights * depth).sum(-2) / total, float("inf"))
        expected = torch.clamp(expected, torch.min(depths), torch.max(depths))
        if rendering_options.get("white_back", False):
            rgb = rgb + 1 - total
        return rgb * 2 - 1, expected, weights

    def forward(self, colors, densities, depths, rendering_options):
        return self.run_forward(colors, densities, depths, rendering_options)


class OSGDecoder(nn.Module):
    """Mean of the planes, one hidden layer."""

    def __init__(self, channels):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(channels, 8), nn.Softplus(), nn.Linear(8, 5))

    def forward(self, sampled_features, ray_directions):
        x = self.net(sampled_features.mean(1))
        return {"rgb": torch.sigmoid(x[..., 1:]) * 1.002 - 0.001, "sigma": x[..., 0:1]}


class ProductDecoder(OSGDecoder):
    """Needs every plane."""

    def forward(self, sampled_features, ray_directions):
        return super().forward(sampled_features.prod(1, keepdim=True), ray_directions)


class ImportanceRenderer(nn.Module):
    def __init__(self):
        super().__init__()
        self.ray_marcher = MipRayMarcher2()
        self.plane_axes = generate_planes()

    def forward(self, planes, decoder, ray_origins, ray_directions, rendering_options):
        self.plane_axes = self.plane_axes.to(ray_origins.device)
        B, R, _ = ray_origins.shape
        S, M = rendering_options["depth_resolution"], rendering_options["depth_resolution_importance"]
        coarse = torch.linspace(0.5, 1.5, S, device=ray_origins.device).reshape(1, 1, S, 1).repeat(B, R, 1, 1)
        coarse += torch.rand_like(coarse) / (S - 1)
        parts = []
        depths = coarse
        for count in (S, M):
            points = (ray_origins.unsqueeze(-2) + depths * ray_directions.unsqueeze(-2)).reshape(B, -1, 3)
            directions = ray_directions.unsqueeze(-2).expand(-1, -1, count, -1).reshape(B, -1, 3)
            out = self.run_model(planes, decoder, points, directions, rendering_options)
            parts.append((depths, out["rgb"].reshape(B, R, count, -1), out["sigma"].reshape(B, R, count, 1)))
            if len(parts) == 1:
                _, colors, densities = parts[0]
                _, _, weights = self.ray_marcher(colors, densities, depths, rendering_options)
                depths = self.sample_importance(depths, weights, M)
        depths, colors, densities = self.unify_samples(*parts[0], *parts[1])
        rgb, depth, weights = self.ray_marcher(colors, densities, depths, rendering_options)
        return rgb, depth, weights.sum(2)

    def run_model(self, planes, decoder, sample_coordinates, sample_directions, options):
        sampled = sample_from_planes(
            self.plane_axes, planes, sample_coordinates, padding_mode="zeros", box_warp=options["box_warp"]
        )
        out = decoder(sampled, sample_directions)
        if options.get("density_noise", 0) > 0:
            out["sigma"] += torch.randn_like(out["sigma"]) * options["density_noise"]
        return out

    def unify_samples(self, depths1, colors1, densities1, depths2, colors2, densities2):
        CALLS.append("unify_samples")
        depths = torch.cat([depths1, depths2], -2)
        colors, densities = torch.cat([colors1, colors2], -2), torch.cat([densities1, densities2], -2)
        depths, order = torch.sort(depths, -2)
        colors = torch.gather(colors, -2, order.expand(-1, -1, -1, colors.shape[-1]))
        return depths, colors, torch.gather(densities, -2, order)

    def sample_importance(self, z_vals, weights, N_importance):
        with torch.no_grad():
            B, R, S, _ = z_vals.shape
            z, weights = z_vals.reshape(B * R, S), weights.reshape(B * R, -1)
            weights = F.max_pool1d(weights.unsqueeze(1).float(), 2, 1, padding=1)
            weights = F.avg_pool1d(weights, 2, 1).squeeze() + 0.01
            mid = 0.5 * (z[:, :-1] + z[:, 1:])
            return self.sample_pdf(mid, weights[:, 1:-1], N_importance).detach().reshape(B, R, N_importance, 1)

    def sample_pdf(self, bins, weights, N_importance, det=False, eps=1e-5):
        CALLS.append("sample_pdf")
        return _formula(bins, weights, N_importance, det, eps, right=True)


class TriPlaneGenerator(nn.Module):
    def __init__(self, decoder=OSGDecoder):
        super().__init__()
        self.planes = nn.Parameter(torch.randn(1, 3, 4, 6, 6))
        self.decoder = decoder(4)
        self.renderer = ImportanceRenderer()

    def forward(self, rays=6, **options):
        B = 2
        origins = torch.linspace(-0.4, 0.4, B * rays * 3).reshape(B, rays, 3) - torch.tensor([0.0, 0.0, 1.0])
        directions = torch.tensor([0.1, -0.1, 1.0]).expand(B, rays, 3)
        options = {"clamp_mode": "softplus", "box_warp": 2.0, "depth_resolution": 7, **options}
        options = {"depth_resolution_importance": 5, **options}
        return self.renderer(
            self.planes.expand(B, -1, -1, -1, -1).contiguous(), self.decoder, origins, directions, options
        )
