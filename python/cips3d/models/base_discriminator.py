"""What every model's discriminator offers to training; each one says how it judges.

Axes: B batch, H and W sides of images in pixels, L length of a pose.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor, nn

from cips3d.models.augment import AugmentDraws, diff_augment
from cips3d.render.image import RenderOutput
from cips3d.render.rays import Camera


class BaseDiscriminatorConfig(Protocol):
    """What all configurations of discriminators have."""

    @property
    def model(self) -> str: ...
    @property
    def max_size(self) -> int: ...  # side of the largest image, in pixels
    @property
    def has_aux(self) -> bool: ...  # whether there is a part for auxiliary images


class BaseDiscriminator(nn.Module, ABC):
    """Logits of images. It looks at one tensor [B,*,*,*], which `fakes` and `reals` arrange and R1 penalises."""

    labelled = False  # whether it is told the poses, as `labels`
    memory_format = torch.contiguous_format  # of weights and feature maps

    def fakes(self, rendered: RenderOutput, use_aux: bool) -> Tensor:
        """The images to be judged: [B,3,H,W], or main then auxiliary images [2B,3,H,W]."""
        return torch.cat([rendered.image, rendered.aux_image]) if use_aux else rendered.image

    def reals(self, images: Tensor, rendered: RenderOutput, use_aux: bool, shown: int) -> Tensor:
        """Real images [B,3,H,W] in the same arrangement as the fakes `rendered`: both parts see the same ones."""
        return torch.cat([images, images]) if use_aux else images

    def labels(self, camera: Camera) -> Tensor | None:
        """What `forward` is told of the poses of fakes, [B,L]."""
        return None

    def forward(
        self,
        images: Tensor,
        alpha: float = 1.0,
        use_aux: bool = False,
        augment: AugmentDraws | None = None,
        labels: Tensor | None = None,
        shown: int = 0,
    ) -> Tensor:
        """Logits [B,1] of arranged images in [-1,1].

        alpha < 1 fades the newest layers in; `augment` holds one set of DiffAugment draws an image, applied before
        everything, so that R1 sees them; `labels` [B,L] are the poses; `shown` is the number of training images seen so
        far. Raises ValueError for what the configuration has no layers for.
        """
        prepared = self.prepare(images, augment, shown).contiguous(memory_format=self.memory_format)
        return self.judge(prepared, alpha, use_aux, labels)

    def prepare(self, images: Tensor, augment: AugmentDraws | None, shown: int) -> Tensor:
        """What the layers take of arranged images, augmented."""
        return images if augment is None else diff_augment(images, augment)

    @abstractmethod
    def judge(self, images: Tensor, alpha: float, use_aux: bool, labels: Tensor | None) -> Tensor:
        """Logits [B,1] of prepared images, as `forward`."""

    def lay_out(self, channels_last: bool) -> None:
        """Have weights and feature maps as B,H,W,C in memory, or not; shapes and numbers stay what they are."""
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)  # type: ignore[call-overload]  # missing in torch's annotations
