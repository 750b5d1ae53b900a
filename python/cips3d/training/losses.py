"""Adversarial losses of CIPS-3D: non-saturating logistic (Goodfellow et al. 2014) with R1 (Mescheder et al. 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def generator_loss(fake_logits: Tensor, weights: Tensor | None = None) -> Tensor:
    """mean softplus(-D(G(z))) of logits [B,1], weighed by `weights` [B,1]."""
    losses = F.softplus(-fake_logits)
    return (losses if weights is None else losses * weights).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """mean (softplus(D(G(z))) + softplus(-D(x))) of logits [B,1] each."""
    return (F.softplus(fake_logits) + F.softplus(-real_logits)).mean()


def r1_gradient_norm(real_logits: Tensor, real_images: Tensor) -> Tensor:
    """||dD(x)/dx||^2 of each image, [B]; differentiable, so R1 = weight/2 * its mean can be minimised.

    `real_images` [B,3,H,W] must require gradients and be what `real_logits` were computed from.
    """
    (gradient,) = torch.autograd.grad(real_logits.sum(), real_images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))
