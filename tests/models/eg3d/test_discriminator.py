"""The dual discriminator: two pictures in one tensor, the blur, the projection onto the pose, R1 of both."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cips3d.models.augment import AugmentDraws, diff_augment
from cips3d.models.eg3d import Eg3dDiscriminator, Eg3dDiscriminatorConfig
from cips3d.models.eg3d.discriminator import blurred
from cips3d.models.eg3d.synthesis import resize
from cips3d.render.image import RenderOutput
from cips3d.render.labels import camera_labels
from cips3d.render.rays import Camera
from cips3d.training.losses import r1_gradient_norm

SIDE, RAW = 16, 8
CONFIG = Eg3dDiscriminatorConfig(channels=(8, 6, 4), mapping_layers=2, stddev_group=2, blur_sigma=1.0, blur_images=100)


@pytest.fixture
def discriminator() -> Eg3dDiscriminator:
    torch.manual_seed(0)
    return Eg3dDiscriminator(CONFIG).double()


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rendered(batch: int = 2) -> RenderOutput:
    empty = torch.empty(0)
    return RenderOutput(randn(batch, 3, SIDE, SIDE), randn(batch, 3, RAW, RAW, seed=1), empty, empty)


def labels(batch: int = 2) -> Tensor:
    yaw = torch.linspace(1.2, 1.9, batch, dtype=torch.float64)
    return camera_labels(Camera.from_angles(yaw, torch.full_like(yaw, 1.5)), SIDE)


def test_both_pictures_are_judged_as_six_channels(discriminator: Eg3dDiscriminator) -> None:
    fakes = rendered()
    both = discriminator.fakes(fakes, use_aux=False)
    assert both.shape == (2, 3, SIDE, SIDE + RAW)
    six = torch.cat([fakes.image, resize(fakes.aux_image, SIDE)], 1)
    vector = discriminator.main(six)
    assert discriminator.mapping is not None
    pose = discriminator.mapping(torch.empty(2, 0, dtype=torch.float64), labels())
    wanted = (vector * pose).sum(1, keepdim=True) / math.sqrt(8)
    torch.testing.assert_close(discriminator(both, labels=labels(), shown=100), wanted)


def test_real_raw_images_are_the_resized_and_blurred_real_ones(discriminator: Eg3dDiscriminator) -> None:
    images = randn(2, 3, SIDE, SIDE, seed=5)
    sharp = discriminator.reals(images, rendered(), False, shown=100)
    assert torch.equal(sharp[..., :SIDE], images)
    torch.testing.assert_close(
        sharp[:, :, :RAW, SIDE:],
        F.interpolate(images, size=(RAW, RAW), mode="bilinear", align_corners=False, antialias=True),
    )
    assert not sharp[:, :, RAW:, SIDE:].any()
    soft = discriminator.reals(images, rendered(), False, shown=0)
    torch.testing.assert_close(soft[:, :, :RAW, SIDE:], blurred(sharp[:, :, :RAW, SIDE:], 1.0))


def test_blur_equals_a_sum_over_every_tap() -> None:
    image, sigma = randn(1, 2, 7, 6), 1.4
    reach = 4  # floor(3 sigma)
    taps = {k: 2 ** -((k / sigma) ** 2) for k in range(-reach, reach + 1)}
    total = sum(taps.values())
    wanted = torch.zeros_like(image)
    for row in range(7):
        for column in range(6):
            for down, a in taps.items():
                for right, b in taps.items():
                    if 0 <= row + down < 7 and 0 <= column + right < 6:
                        wanted[..., row, column] += image[..., row + down, column + right] * a * b / total**2
    torch.testing.assert_close(blurred(image, sigma), wanted)
    assert blurred(image, 0.3) is image


def test_the_blur_fades_and_falls_on_the_image_too(discriminator: Eg3dDiscriminator) -> None:
    assert [discriminator.blur_sigma(shown) for shown in (0, 50, 100, 200)] == [1.0, 0.5, 0.0, 0.0]
    both = discriminator.fakes(rendered(), False)
    soft = both.clone()
    soft[..., :SIDE] = blurred(both[..., :SIDE], 1.0)
    torch.testing.assert_close(
        discriminator(both, labels=labels(), shown=0), discriminator(soft, labels=labels(), shown=100)
    )


def test_r1_is_the_sum_of_both_pictures_penalties(discriminator: Eg3dDiscriminator) -> None:
    """Towards the raw image at its own side, where one of its pixels covers several of the judged ones."""
    image, raw = randn(2, 3, SIDE, SIDE).requires_grad_(), randn(2, 3, RAW, RAW, seed=1).requires_grad_()
    both = discriminator.fakes(RenderOutput(image, raw, raw, raw), False).detach().requires_grad_()
    r1 = r1_gradient_norm(discriminator(both, labels=labels(), shown=100), both)
    logits = discriminator(discriminator.fakes(RenderOutput(image, raw, raw, raw), False), labels=labels(), shown=100)
    towards = torch.autograd.grad(logits.sum(), (image, raw))
    torch.testing.assert_close(r1, sum(g.square().sum((1, 2, 3)) for g in towards))
    r1.sum().backward()  # the second derivative
    for shown in (0, 100):
        both.grad = None
        r1_gradient_norm(discriminator(both, labels=labels(), shown=shown), both).sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in discriminator.parameters())
    assert discriminator.main.output.weight.grad is not None and discriminator.main.output.weight.grad.any()


def test_augmentation_is_one_for_both(discriminator: Eg3dDiscriminator) -> None:
    fakes = rendered()
    draws = AugmentDraws.sample(2, SIDE, torch.Generator().manual_seed(0))
    augmented = discriminator(discriminator.fakes(fakes, False), augment=draws, labels=labels(), shown=100)
    image, raw = diff_augment(fakes.image, draws), diff_augment(resize(fakes.aux_image, SIDE), draws)
    by_hand = discriminator.fakes(RenderOutput(image, raw, raw, raw), False)
    torch.testing.assert_close(augmented, discriminator(by_hand, labels=labels(), shown=100))


def test_single_and_unconditioned_discriminators() -> None:
    single = Eg3dDiscriminator(dataclasses.replace(CONFIG, dual=False, pose_conditioned=False)).double()
    fakes = rendered()
    assert torch.equal(single.fakes(fakes, False), fakes.image)
    assert torch.equal(single.reals(fakes.image, fakes, False, 0), fakes.image)
    assert not single.labelled and single.labels(Camera.from_angles(1.0, 1.0)) is None
    torch.testing.assert_close(single(fakes.image, shown=100), single.main(fakes.image))


def test_labels_of_fakes_and_their_absence(discriminator: Eg3dDiscriminator) -> None:
    camera = Camera.from_angles(1.2, 1.5)
    assert torch.equal(discriminator.labels(camera), camera_labels(camera, SIDE))
    both = discriminator.fakes(rendered(), False)
    theirs = camera_labels(Camera.from_angles(torch.tensor([1.2, 1.9]), 1.5), SIDE, radius=2.7).double()
    ours = camera_labels(Camera.from_angles(torch.tensor([1.2, 1.9]), 1.5), SIDE).double()
    torch.testing.assert_close(  # the unit of a data set's lengths is no sign of real images
        discriminator(both, labels=theirs), discriminator(both, labels=ours), rtol=1e-5, atol=1e-6
    )
    with pytest.raises(ValueError, match=r"labels must be \[B,25\], the poses of the images, got None"):
        discriminator(discriminator.fakes(rendered(), False))
