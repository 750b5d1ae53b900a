"""GIRAFFE (arXiv 2011.12100, github.com/autonomousvision/giraffe): the volume weights of its generator."""

from __future__ import annotations

from torch import Tensor

from ._samples import INFINITE_DELTA, ray_weights


def calc_volume_weights(z_vals: Tensor, ray_vector: Tensor, sigma: Tensor, last_dist: float = INFINITE_DELTA) -> Tensor:
    """z_vals, sigma [B,R,S], ray_vector [B,R,3] -> weights [B,R,S]. |ray| multiplies every interval, the last too."""
    return ray_weights(sigma, z_vals, ray_vector, last_delta=last_dist, norm_last=True).weights
