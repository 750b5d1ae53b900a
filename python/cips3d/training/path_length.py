"""Path length regularisation of a generator (StyleGAN2, arXiv 1912.04958, section 3.2), taken every so many steps.

    g = d sum(image * y) / d w,  y normal / sqrt(pixels)      l = sqrt(mean over layers of |g of a layer's w|^2)
    penalty = mean (l - a)^2                                  a the running mean of l

A step in w then changes pictures by as much everywhere. It is a gradient of a gradient through the whole generator:
every op takes part with its derivatives of second order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cips3d.config.training import RegulariserConfig
from cips3d.distributed import average_


class PathLength:
    """The running mean, and the penalty weighed so that it counts as much as if it were taken at every step."""

    def __init__(self, config: RegulariserConfig, device: torch.device) -> None:
        self.config = config
        self.mean = torch.zeros((), device=device)

    def due(self, step: int) -> bool:
        return self.config.path_length_weight > 0 and step % self.config.path_length_every == 0

    @property
    def images(self) -> slice:
        """Which of a batch's images it is taken of: the same ones, however many processes share the batch."""
        return slice(None, None, self.config.path_length_shrink)

    def __call__(self, images: Tensor, styles: Sequence[Tensor], normal: Tensor) -> tuple[Tensor, Tensor]:
        """The penalty of images [b,3,S,S] made of styles [b,L,W], with normal numbers of the images' shape, and without
        its weight."""
        lengths = path_lengths(images, styles, normal / math.sqrt(images[0, 0].numel()))
        mean = lengths.detach().mean()
        average_([mean])
        self.mean = torch.lerp(self.mean, mean, self.config.path_length_decay)
        penalty = (lengths - self.mean).square().mean()
        return self.config.path_length_weight * self.config.path_length_every * penalty, penalty.detach()


def path_lengths(images: Tensor, styles: Sequence[Tensor], directions: Tensor) -> Tensor:
    """sqrt(mean over layers of |d sum(images * directions) / d w|^2), [b], of styles [b,L,W] or [b,W].

    Differentiable, also where it is 0 (a picture of empty space).
    """
    given = [style for style in styles if style.shape[-1]]  # models of one code have an empty half
    # Layers that a stage's pictures do not use count with 0.
    total = (images * directions).sum()
    gradients = torch.autograd.grad(total, given, create_graph=True, materialize_grads=True)
    layers = sum(gradient[0].numel() // gradient.shape[-1] for gradient in gradients)
    flat = torch.cat([gradient.flatten(1) for gradient in gradients], 1)
    # Under autocast the styles are in bfloat16, where squares and their sum would be rounded.
    wide = flat.to(torch.promote_types(flat.dtype, torch.float32))
    return torch.linalg.vector_norm(wide, dim=1) / math.sqrt(layers)


def differentiable(styles: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The styles, or where no network that learns has made them new leaves with their values."""
    first, second = (w if w.requires_grad else w.detach().requires_grad_() for w in styles)
    return first, second
