"""Small random calls on which a host's rendering function is compared with ours (see `_functions`).

Each yields keyword arguments under the names that the hosts use; a host gets those that its function has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

Case = dict[str, Any]

_B, _R, _S, _C = 2, 3, 5, 3


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _depths(*shape: int, seed: int = 1) -> Tensor:
    """Increasing along the last axis, in [0.5, 1.5]."""
    numbers = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    return 0.5 + numbers.sort(-1).values


def rgb_sigma(_: type | None) -> Iterator[Case]:
    """fancy_integration of pi-GAN, CIPS-3D and EpiGRAF."""
    given: Case = {"rgb_sigma": _random(_B, _R, _S, _C + 1), "z_vals": _depths(_B, _R, _S).unsqueeze(-1)}
    given |= {"device": torch.device("cpu"), "dim_rgb": _C}
    yield {**given, "clamp_mode": "relu", "noise_std": 0.3, "white_back": True, "white_back_end_idx": 2}
    yield {**given, "clamp_mode": "softplus", "noise_std": 0, "last_back": True, "sp_beta": 2.0, "use_inf_depth": False}


def renderer(_: type | None) -> Iterator[Case]:
    """VolumeGAN's."""
    given = {"rgbs": _random(_B, _R, _S, 4), "sigmas": _random(_B, _R, _S, 1, seed=2), "noise_std": 0.3}
    given["pts_z"] = _depths(_B, _R, _S).unsqueeze(-1)
    yield {**given, "clamp_mode": "mipnerf", "max_depth": 3.0, "white_back": True}
    yield {**given, "clamp_mode": "relu", "render_mode": "no_dist", "last_back": True}


def march(_: type | None) -> Iterator[Case]:
    """EG3D's ray marcher."""
    given = {"self": None, "colors": _random(_B, _R, _S, 4), "densities": _random(_B, _R, _S, 1, seed=2)}
    given["depths"] = _depths(_B, _R, _S).unsqueeze(-1)
    yield {**given, "rendering_options": {"clamp_mode": "softplus", "white_back": True}}
    yield {**given, "rendering_options": {"clamp_mode": "softplus"}}


def weights(_: type | None) -> Iterator[Case]:
    """calc_volume_weights of GIRAFFE and StyleNeRF."""
    given = {"self": None, "sigma": _random(_B, _R, _S), "z_vals": _depths(_B, _R, _S)}
    yield {**given, "ray_vector": _random(_B, _R, 3, seed=2)}
    yield {**given, "ray_vector": _random(_B, _R, 3, seed=2), "last_dist": 0.0}


def pdf(_: type | None) -> Iterator[Case]:
    """Every host's sample_pdf."""
    given = {"self": None, "bins": _depths(_R, _S + 1), "weights": _random(_R, _S).abs(), "N_importance": 7}
    yield given
    yield {**given, "det": True}


def two_sets(_: type | None) -> Iterator[Case]:
    """EG3D's unify_samples."""
    case: Case = {"self": None}
    for number, samples in (("1", _S), ("2", _S + 2)):
        seed = int(number)
        case["depths" + number] = _depths(_B, _R, samples, seed=seed).unsqueeze(-1)
        case["colors" + number] = _random(_B, _R, samples, 4, seed=seed)
        case["densities" + number] = _random(_B, _R, samples, 1, seed=seed + 2)
    yield case


def planes(_: type | None) -> Iterator[Case]:
    """EG3D's sample_from_planes, on its published planes."""
    x, y, z = torch.eye(3)
    axes = torch.stack([torch.stack(plane) for plane in ((x, y, z), (x, z, y), (z, x, y))])
    given = {
        "plane_axes": axes,
        "plane_features": _random(_B, 3, 4, 5, 6),
        "coordinates": 0.3 * _random(_B, 7, 3, seed=2),
    }
    yield {**given, "padding_mode": "zeros", "box_warp": 1.5}


class _Mean(nn.Module):
    """A decoder that takes the mean of the planes, as those of EG3D and EpiGRAF."""

    def forward(self, features: Tensor, coords: Tensor, directions: Tensor) -> Tensor:
        return features.mean(1).sin()


def tri_plane(_: type | None) -> Iterator[Case]:
    """EpiGRAF's tri_plane_renderer."""
    given = {"x": _random(_B, 12, 5, 6), "coords": 0.6 * _random(_B, 7, 3, seed=2), "ray_d_world": _random(_B, 7, 3)}
    yield {**given, "mlp": _Mean(), "scale": 1.5}


def grid(_: type | None) -> Iterator[Case]:
    """pi-GAN's sample_from_3dgrid."""
    yield {"coordinates": 0.6 * _random(_B, 7, 3), "grid": _random(1, 4, 3, 4, 5, seed=2)}


def volume(_: type | None) -> Iterator[Case]:
    """VolumeGAN's interpolate_feature."""
    bounds = torch.tensor([[-0.9, -1.0, -1.1], [1.0, 1.2, 1.1]])
    yield {"points": 0.6 * _random(_B, 7, 3), "volume": _random(_B, 4, 3, 4, 5, seed=2), "bounds": bounds}


def volume_grid(_: type | None) -> Iterator[Case]:
    """VolumeGAN's grid_sample_3d."""
    yield {"image": _random(_B, 4, 3, 4, 5, seed=2), "optical": 0.6 * _random(_B, 2, 1, 7, 3)}


def query(cls: type | None) -> Iterator[Case]:
    """StyleNeRF's query_input_features."""
    given: Case = {"p_i": _random(_B, 16, 3), "p_shape": (_B, 2, 2, 4), "bound": 2.0}
    feature_planes, feature_volume = _random(_B, 3, 4, 5, 6, seed=2), _random(_B, 4, 3, 4, 5, seed=3)
    kinds = (
        ("tri_plane", feature_planes),
        ("volume", feature_volume),
        ("tri_plane", feature_planes, "volume", feature_volume),
    )
    for kind in kinds:
        yield {**given, "self": _instance(cls, keep_posenc=-1), "input_feats": kind}


def sdf_method(cls: type | None) -> Iterator[Case]:
    """StyleSDF's volume_integration: a method that reads its renderer's settings."""
    shape = (_B, 2, 2, _S)
    given = {
        "raw": _random(*shape, 8),
        "z_vals": _depths(*shape),
        "rays_d": _random(_B, 2, 2, 3),
        "pts": _random(*shape, 3),
    }
    settings: Case = {"samples_dim": 3, "channel_dim": -1, "inf": torch.tensor([1e10]), "zero_idx": torch.tensor([0])}
    settings |= {"output_features": True, "feature_out_size": 4, "sigmoid_beta": torch.tensor([0.1])}
    for with_sdf in (True, False):
        switches = {"with_sdf": with_sdf, "return_sdf": True, "return_xyz": True, "force_background": with_sdf}
        yield {**given, "self": _instance(cls, **settings, **switches, raw_noise_std=0.3)}


def sdf_parts(_: type | None) -> Iterator[Case]:
    """CIPS-3D++'s volume_integration."""
    shape = (_B, 2, 2, _S)
    given: Case = {"rgb": _random(*shape, 3), "sdf": _random(*shape, 1, seed=2), "features": _random(*shape, 4, seed=3)}
    given |= {"z_vals": _depths(*shape), "rays_d": _random(_B, 2, 2, 3), "pts": _random(*shape, 3, seed=4)}
    yield {**given, "sigmoid_beta": torch.tensor([0.1]), "force_background": True}
    yield {**given, "with_sdf": False, "raw_noise_std": 0.3}


def _instance(cls: type | None, **attributes: Any) -> Any:
    """An object of a host's class, without its constructor."""
    assert cls is not None
    made: Any = object.__new__(cls)
    vars(made).update(attributes)
    return made
