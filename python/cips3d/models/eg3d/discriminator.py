"""EG3D's dual discriminator (arXiv 2112.07945, section 4.3): StyleGAN2's, told the pose, of image and raw image.

Both are one tensor on the way to it, side by side: the image [B,3,S,S] and the raw image of side r <= S with zeros
below it, [B,3,S,S+r]. The zeros are cut off again, so R1 is the sum of both images' penalties.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cips3d.models.augment import AugmentDraws, diff_augment
from cips3d.models.base_discriminator import BaseDiscriminator
from cips3d.models.discriminator import ImageDiscriminator
from cips3d.models.eg3d.config import Eg3dDiscriminatorConfig
from cips3d.models.eg3d.synthesis import RGB, resize
from cips3d.models.stylegan2 import StyleMapping
from cips3d.render.image import RenderOutput
from cips3d.render.labels import LABEL, at_distance_one, camera_labels
from cips3d.render.rays import Camera

BLUR_REACH = 3  # standard deviations that the blur's taps go to


class Eg3dDiscriminator(BaseDiscriminator):
    """Logits [B,1]: the vector that the images give, times the one that the pose gives, over the root of its length."""

    def __init__(self, config: Eg3dDiscriminatorConfig) -> None:
        super().__init__()
        self.config, self.labelled = config, config.pose_conditioned
        self.width = config.channels[0] if config.pose_conditioned else 1
        images = 2 if config.dual else 1
        self.main = ImageDiscriminator(config.channels, False, config.stddev_group, images * RGB, self.width)
        self.mapping = StyleMapping(0, self.width, config.mapping_layers, LABEL) if config.pose_conditioned else None

    def fakes(self, rendered: RenderOutput, use_aux: bool) -> Tensor:
        return side_by_side(rendered.image, rendered.aux_image) if self.config.dual else rendered.image

    def reals(self, images: Tensor, rendered: RenderOutput, use_aux: bool, shown: int) -> Tensor:
        if not self.config.dual:
            return images
        raw = resize(images, rendered.aux_image.shape[-1])
        return side_by_side(images, blurred(raw, self.blur_sigma(shown)))

    def labels(self, camera: Camera) -> Tensor | None:
        return camera_labels(camera, self.config.max_size) if self.labelled else None

    def blur_sigma(self, shown: int) -> float:
        """Standard deviation of the blur in pixels, up to the base 2, after `shown` training images."""
        config = self.config
        return config.blur_sigma * max(0.0, 1 - shown / config.blur_images) if config.blur_images else 0.0

    def prepare(self, images: Tensor, augment: AugmentDraws | None, shown: int) -> Tensor:
        """[B,6,S,S] of what `fakes` or `reals` gave, the raw image brought to side S; or [B,3,S,S], if not dual."""
        side = images.shape[2]
        parts = [blurred(images[..., :side], self.blur_sigma(shown))]
        if self.config.dual:
            parts.append(resize(images[:, :, : images.shape[3] - side, side:], side))
        if augment is not None:
            parts = [diff_augment(part, augment) for part in parts]
        return torch.cat(parts, 1)

    def judge(self, images: Tensor, alpha: float, use_aux: bool, labels: Tensor | None) -> Tensor:
        """Raises ValueError without labels [B,25] where it wants them."""
        judged = self.main(images, alpha)
        if self.mapping is None:
            return judged
        if labels is None:
            raise ValueError("discriminator: labels must be [B,25], the poses of the images, got None")
        # Data sets have units of their own, which would tell real from fake.
        labels = at_distance_one(labels)
        pose = self.mapping(labels.new_empty(len(labels), 0), labels)
        return (judged * pose).sum(1, keepdim=True) / math.sqrt(self.width)


def side_by_side(image: Tensor, raw: Tensor) -> Tensor:
    """[B,3,S,S] and [B,3,r,r] -> [B,3,S,S+r], zeros below the second."""
    return torch.cat([image, F.pad(raw, (0, 0, 0, image.shape[2] - raw.shape[2]))], 3)


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Images [B,C,H,W] convolved with 2^-(x / sigma)^2 in both directions, black around them; sigma in pixels."""
    reach = math.floor(BLUR_REACH * sigma)
    if not reach:
        return images
    taps = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device).div(sigma).square().neg().exp2()
    rows = (taps / taps.sum()).view(1, 1, -1, 1)
    planes = images.flatten(0, 1)[:, None]  # as a batch: a depthwise convolution's second derivative is slow
    planes = F.conv2d(F.conv2d(planes, rows, padding=(reach, 0)), rows.mT, padding=(0, reach))
    return planes.view_as(images)
