"""Renderers of public 3D GANs as modules of one tensor, for `bench_peers.py`; rays, depths and points are fixed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.drop_in.hosts import eg3d_rendering as eg3d
from tests.drop_in.hosts import epigraf_rendering as epigraf
from tests.drop_in.hosts import pigan_rendering as pigan
from tests.drop_in.hosts import stylesdf_rendering as stylesdf
from tests.drop_in.hosts import volumegan_rendering as volumegan

B = 1
NEAR, LENGTH = 0.5, 1.0  # of the rays
Entry = tuple[str, Callable[[], nn.Module], tuple[tuple[int, ...], ...]]


class NoCalls:
    """In place of the lists in which the hosts note their calls for tests: torch.compile would compile anew as they
    grow."""

    def append(self, name: str) -> None:
        pass


for _host in (eg3d, epigraf, pigan, stylesdf, volumegan):
    _host.CALLS = NoCalls()


def depths(rays: int, samples: int) -> Tensor:
    return NEAR + LENGTH * torch.rand(B, rays, samples).sort(-1).values


class Eg3d(nn.Module):
    """Planes [B,3,C,H,W] -> image features: sampling, decoder, marching and importance sampling, two passes."""

    def __init__(self, rays: int, samples: int, channels: int) -> None:
        super().__init__()
        self.renderer, self.decoder = eg3d.ImportanceRenderer(), eg3d.OSGDecoder(channels)
        # The published decoder: 64 hidden units, 32 features and a density.
        self.decoder.net = nn.Sequential(nn.Linear(channels, 64), nn.Softplus(), nn.Linear(64, 33))
        self.register_buffer("origins", 0.02 * torch.randn(B, rays, 3) - torch.tensor([0.0, 0.0, 1.0]))
        aims = 0.1 * torch.randn(B, rays, 3) + torch.tensor([0.0, 0.0, 1.0])
        self.register_buffer("directions", nn.functional.normalize(aims, dim=-1))
        self.options = {"depth_resolution": samples, "depth_resolution_importance": samples}
        self.options |= {"clamp_mode": "softplus", "box_warp": 1.0}

    def forward(self, planes: Tensor) -> Tensor:
        return self.renderer(planes, self.decoder, self.origins, self.directions, self.options)[0]


class Integral(nn.Module):
    """Colours and density [B,R,S,4] -> colours, as pi-GAN integrates."""

    def __init__(self, rays: int, samples: int) -> None:
        super().__init__()
        self.register_buffer("z_vals", depths(rays, samples).unsqueeze(-1))

    def forward(self, rgb_sigma: Tensor) -> Tensor:
        device = rgb_sigma.device
        return pigan.fancy_integration(rgb_sigma, self.z_vals, device, clamp_mode="relu", noise_std=0.5)[0]


class Surface(nn.Module):
    """Raw output [B,H,W,S,3+1+C] of StyleSDF's network -> colours and features."""

    def __init__(self, side: int, samples: int, channels: int) -> None:
        super().__init__()
        self.renderer = stylesdf.VolumeFeatureRenderer(force_background=True, return_xyz=False)
        self.renderer.network, self.renderer.feature_out_size = nn.Identity(), channels
        self.register_buffer("z_vals", depths(side**2, samples).reshape(B, side, side, samples))
        self.register_buffer("rays", nn.functional.normalize(torch.randn(B, side, side, 3), dim=-1))

    def forward(self, raw: Tensor) -> list[Tensor]:
        points = self.rays.unsqueeze(3) * self.z_vals.unsqueeze(-1)
        return [self.renderer.volume_integration(raw, self.z_vals, self.rays, points)[1]]


class Volume(nn.Module):
    """Feature volume [B,C,D,H,W] -> features of points, as VolumeGAN interpolates."""

    def __init__(self, points: int) -> None:
        super().__init__()
        self.register_buffer("points", 0.1 * torch.randn(B, points, 3))
        self.register_buffer("bounds", torch.tensor([[-0.19, -0.17, -0.2], [0.19, 0.17, 0.19]]))

    def forward(self, volume: Tensor) -> Tensor:
        return volumegan.interpolate_feature(self.points, volume, self.bounds)


class Planes(nn.Module):
    """Planes [B,3*C,H,W] -> colours and density of points, as EpiGRAF's tri_plane_renderer with its network."""

    def __init__(self, points: int, channels: int) -> None:
        super().__init__()
        self.mlp = epigraf.TriPlaneMLP(channels, 2 * channels)
        self.register_buffer("points", 0.4 * torch.randn(B, points, 3))

    def forward(self, planes: Tensor) -> Tensor:
        return epigraf.tri_plane_renderer(planes, self.points, None, self.mlp)


def renderers(quick: bool) -> list[Entry]:
    """(name, how it is made, shapes of its inputs); sizes of the hosts' training, one image."""
    rays, samples, side, C = (16, 4, 8, 4) if quick else (1024, 48, 256, 32)
    entries: list[tuple[str, Callable[..., Any], tuple[int, ...], tuple[int, ...]]] = [
        ("EG3D ImportanceRenderer", Eg3d, (rays, samples, C), (B, 3, C, side, side)),
        ("pi-GAN fancy_integration", Integral, (rays, samples), (B, rays, samples, 4)),
        ("StyleSDF volume_integration", Surface, (4, samples, 8 * C), (B, 4, 4, samples, 4 + 8 * C)),
        ("VolumeGAN interpolate_feature", Volume, (rays * samples,), (B, C, C, C, C)),
        ("EpiGRAF tri_plane_renderer", Planes, (rays * samples, C), (B, 3 * C, side, side)),
    ]
    if not quick:
        entries[2] = ("StyleSDF volume_integration", Surface, (32, 24, 256), (B, 32, 32, 24, 260))
    return [(name, lambda made=made, sizes=sizes: made(*sizes), (shape,)) for name, made, sizes, shape in entries]
