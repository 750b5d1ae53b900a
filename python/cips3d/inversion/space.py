"""Where an inversion looks for styles: coordinates with which gradient descent moves, and what they mean."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from cips3d.models.base import Mapping

STYLES = 10_000  # codes whose styles give the mean and the covariance; the truncation's mean takes as many
SPACES = ("w", "z")


class LatentSpace(ABC):
    """Coordinates x [B,D] of the styles w [B,W] that a mapping network makes."""

    @abstractmethod
    def start(self, count: int, generator: torch.Generator) -> Tensor:
        """Where `count` searches begin, [count,D]."""

    @abstractmethod
    def styles(self, x: Tensor) -> Tensor:
        """The styles w [B,W], differentiable."""

    @abstractmethod
    def prior(self, x: Tensor) -> Tensor:
        """How unlikely x is, [B]: about 1 for the styles of random codes, 0 where every style is as likely."""


class StyleSpace(LatentSpace):
    """All of W, whitened: w = mean + x A with A A^T the covariance of w over random codes, so that x has spread 1.

    Steps of one length then suit all directions, and a pull to 0 is a pull to the styles that the mapping network
    makes: its squared length is the Mahalanobis distance (compare the P-norm space of arXiv 2012.09036).
    """

    @torch.no_grad()
    def __init__(self, mapping: Mapping, count: int = STYLES, seed: int = 0) -> None:
        like = mapping.like
        z = torch.randn(count, mapping.z_dim, generator=torch.Generator().manual_seed(seed))
        w = mapping.styles(z.to(like)).double()
        values, vectors = torch.linalg.eigh(torch.cov(w.mT))
        self.mean = w.mean(0, keepdim=True).to(like)
        self.basis = (vectors * values.clamp(min=0).sqrt()).mT.to(like)  # [W,W], an axis a row

    def start(self, count: int, generator: torch.Generator) -> Tensor:
        """The mean style."""
        return torch.zeros(self.mean.shape, device=self.mean.device, dtype=self.mean.dtype).repeat(count, 1)

    def styles(self, x: Tensor) -> Tensor:
        return self.mean + x @ self.basis

    def prior(self, x: Tensor) -> Tensor:
        return x.square().mean(1)


class CodeSpace(LatentSpace):
    """Codes z: every result is a head that `cips3d generate` could draw, and few pictures are matched closely."""

    def __init__(self, mapping: Mapping) -> None:
        self.mapping = mapping

    def start(self, count: int, generator: torch.Generator) -> Tensor:
        """Random codes: there is no mean one, since the mapping network normalises their length."""
        return torch.randn(count, self.mapping.z_dim, generator=generator).to(self.mapping.like)

    def styles(self, x: Tensor) -> Tensor:
        return self.mapping.styles(x)

    def prior(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x))


def latent_space(name: str, mapping: Mapping) -> LatentSpace:
    """The space `name` of `mapping`. Raises ValueError for another name than "w" or "z"."""
    if name not in SPACES:
        raise ValueError(f"latent_space: wanted one of {', '.join(SPACES)}, got {name!r}")
    return StyleSpace(mapping) if name == "w" else CodeSpace(mapping)
