"""One discriminator step and one generator step, as functions of explicit images, codes and draws."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from cips3d.distributed import average_, gather
from cips3d.models.augment import AugmentDraws
from cips3d.models.base_discriminator import BaseDiscriminator
from cips3d.training.losses import discriminator_loss, generator_loss, r1_gradient_norm


class NonFiniteError(RuntimeError):
    """A loss or a gradient is no longer a number; the weights were not changed by the step that found it."""


@dataclass(frozen=True)
class Judge:
    """How the discriminator looks at images: fade-in `alpha`, with or without the auxiliary part, how much it has seen.

    `shown` counts training images, for what models change with it.
    """

    alpha: float = 1.0
    use_aux: bool = True
    shown: int = 0

    def logits(
        self,
        discriminator: BaseDiscriminator,
        images: Tensor,
        augment: AugmentDraws | None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Logits [B,1], in float32 at least: softplus and its mean should not be rounded to bfloat16."""
        logits = discriminator(
            images, alpha=self.alpha, use_aux=self.use_aux, augment=augment, labels=labels, shown=self.shown
        )
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


class DiscriminatorStep(NamedTuple):
    """Outcome of a D step: loss, logits [B or 2B,1], squared R1 norms (or empty), norm before clipping.

    Loss and norm are those of the batch of all processes, the others those of this process's part.
    """

    loss: Tensor
    real_logits: Tensor
    fake_logits: Tensor
    r1: Tensor
    grad_norm: Tensor


class GeneratorStep(NamedTuple):
    """Outcome of a G step: loss, logits, norm of the gradient before clipping (of the processes as above)."""

    loss: Tensor
    fake_logits: Tensor
    grad_norm: Tensor


def discriminator_step(
    discriminator: BaseDiscriminator,
    optimizer: Optimizer,
    real: Tensor,
    fake: Tensor,
    judge: Judge,
    *,
    r1_weight: float,
    clip_norm: float,
    augments: tuple[AugmentDraws, AugmentDraws] | None = None,
    labels: tuple[Tensor | None, Tensor | None] = (None, None),
    precision: torch.dtype | None = None,
) -> DiscriminatorStep:
    """Adam on mean(softplus(D(fake)) + softplus(-D(real)) + r1_weight/2 ||dD/dx||^2).

    `real` and `fake` are arranged by the discriminator; r1_weight 0 leaves the penalty out; `augments` and `labels` are
    for real and fake; `precision` is the autocast dtype, or None. Raises NonFiniteError before touching a weight.
    """
    augment_real, augment_fake = augments or (None, None)
    real = real.detach().requires_grad_(r1_weight > 0)
    with torch.autocast(real.device.type, dtype=precision, enabled=precision is not None):
        fake_logits = judge.logits(discriminator, fake.detach(), augment_fake, labels[1])
        real_logits = judge.logits(discriminator, real, augment_real, labels[0])
    r1 = r1_gradient_norm(real_logits, real) if r1_weight > 0 else real.new_zeros(0)
    loss = discriminator_loss(real_logits, fake_logits)
    if r1_weight > 0:
        loss = loss + 0.5 * r1_weight * r1.mean()
    grad_norm = _descend(optimizer, discriminator.parameters(), loss, clip_norm, "discriminator")
    return DiscriminatorStep(loss.detach(), real_logits.detach(), fake_logits.detach(), r1.detach(), grad_norm)


def generator_step(
    generator: nn.Module,
    discriminator: BaseDiscriminator,
    optimizer: Optimizer,
    fake: Tensor,
    judge: Judge,
    *,
    clip_norm: float,
    augment: AugmentDraws | None = None,
    labels: Tensor | None = None,
    kept: float = 1.0,
    precision: torch.dtype | None = None,
    penalty: Tensor | None = None,
) -> GeneratorStep:
    """Adam on mean softplus(-D(fake)) + penalty, where `fake` carries the generator's graph; `loss` is the first term.

    With kept < 1 the mean is over that part of the batch, rounded up, that the discriminator takes best. Raises
    NonFiniteError as above.
    """
    discriminator.requires_grad_(False)
    try:
        with torch.autocast(fake.device.type, dtype=precision, enabled=precision is not None):
            logits = judge.logits(discriminator, fake, augment, labels)
        loss = generator_loss(logits, best_part(logits, kept) if kept < 1 else None)
        total = loss if penalty is None else loss + penalty
        grad_norm = _descend(optimizer, generator.parameters(), total, clip_norm, "generator")
    finally:
        discriminator.requires_grad_(True)
    return GeneratorStep(loss.detach(), logits.detach(), grad_norm)


def best_part(logits: Tensor, kept: float) -> Tensor:
    """Weights [B,1] of mean 1 over the batch of all processes: alike for its `kept` best logits, 0 for the others."""
    everyone = gather(logits.detach().flatten())
    count = math.ceil(kept * len(everyone))
    return (logits.detach() >= everyone.topk(count).values[-1]).to(logits.dtype) * (len(everyone) / count)


def _descend(
    optimizer: Optimizer, parameters: Iterable[nn.Parameter], loss: Tensor, clip_norm: float, name: str
) -> Tensor:
    """One step down the loss of the batch of all processes; `loss`, that of a part, becomes it."""
    parameters = list(parameters)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    # Averaged here and not by DistributedDataParallel: that wants a gradient of every parameter in every pass, while
    # the released networks have some that never get one and each stage uses or freezes others; it takes one backward
    # pass for one forward pass; and it rules out autograd.grad, which R1 is made of. All processes are in the same
    # step of the same stage, so the parameters without a gradient are the same ones. A number that is not finite in
    # one process is so in all of them from here on, and all stop together.
    average_([loss.detach(), *(p.grad for p in parameters if p.grad is not None)])
    norm = clip_grad_norm_(parameters, clip_norm)
    # A finite gradient norm implies finite gradients; a loss can be infinite with zero gradient, so look at both.
    if not torch.isfinite(torch.stack([loss.detach(), norm])).all():
        raise NonFiniteError(f"the {name}'s loss is {loss.item():g} and its gradient norm {norm.item():g}")
    optimizer.step()
    return norm.detach()
