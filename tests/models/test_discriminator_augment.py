"""DiffAugment: fixed draws give the stated pixels; sampled draws stay in their ranges and follow the generator."""

import dataclasses

import torch

from cips3d.models.augment import AugmentDraws, diff_augment

SIZE = 16
IDENTITY = {"brightness": 0.5, "saturation": 0.5, "contrast": 0.5, "tx": 0, "ty": 0, "cx": -SIZE, "cy": -SIZE}


def draws(**changes):
    values = IDENTITY | changes
    return AugmentDraws(**{name: torch.tensor([value], dtype=torch.float64) for name, value in values.items()})


def image():
    return torch.rand(1, 3, SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1.0


def test_neutral_draws_change_nothing():
    torch.testing.assert_close(diff_augment(image(), draws()), image())


def test_translation_reads_shifted_rows_and_columns():
    x, y = image(), diff_augment(image(), draws(tx=2, ty=-1))
    torch.testing.assert_close(y[:, :, :-2, 1:], x[:, :, 2:, :-1])
    assert (y[:, :, -2:] == 0).all() and (y[..., 0] == 0).all()


def test_cut_out_is_a_clipped_square():
    zero = diff_augment(image(), draws(cx=8, cy=0))[0, 0] == 0  # side round(0.2 * 16) = 3, one column outside
    assert zero.nonzero().tolist() == [[r, c] for r in (7, 8, 9) for c in (0, 1)]


def test_colour():
    x = image()
    torch.testing.assert_close(diff_augment(x, draws(brightness=0.75)), x + 0.25)
    grey = x.mean(1, keepdim=True).expand_as(x)
    torch.testing.assert_close(diff_augment(x, draws(saturation=0.0)), grey)
    contrast = diff_augment(x, draws(contrast=0.0))
    torch.testing.assert_close(contrast - x.mean(), 0.5 * (x - x.mean()))


def test_second_derivatives():
    x = image()[..., :5, :5].contiguous().requires_grad_()
    d = draws(tx=1, ty=-1, cx=2, cy=2, saturation=0.9)
    assert torch.autograd.gradcheck(lambda v: diff_augment(v, d).square(), x)
    assert torch.autograd.gradgradcheck(lambda v: diff_augment(v, d).square(), x)


def test_sampled_draws():
    a = AugmentDraws.sample(500, SIZE, torch.Generator().manual_seed(3))
    b = AugmentDraws.sample(500, SIZE, torch.Generator().manual_seed(3))
    for field in dataclasses.fields(a):
        assert torch.equal(getattr(a, field.name), getattr(b, field.name))
    assert a.tx.unique().tolist() == [-2, -1, 0, 1, 2]
    assert a.cx.unique().tolist() == list(range(SIZE))
    assert a.contrast.min() >= 0 and a.contrast.max() < 1
