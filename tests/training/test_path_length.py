"""The path length term: lengths against explicit Jacobians, its running mean, and its options."""

import math

import pytest
import torch

from cips3d.config.training import RegulariserConfig
from cips3d.training.path_length import PathLength, differentiable, path_lengths

OPTIONS = RegulariserConfig(path_length_weight=2.0, path_length_every=4, path_length_shrink=2, path_length_decay=0.25)


def images_of(first, second):
    """[2,3,2,2], not linear in the styles [2,2,3] and [2,4]."""
    source = torch.Generator().manual_seed(5)
    a, b = (torch.randn(n, 12, generator=source, dtype=torch.float64) for n in (6, 4))
    return ((first.flatten(1) @ a).sin() + (second @ b).square()).unflatten(1, (3, 2, 2))


def styles():
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 2, 3), (2, 4))]


def test_lengths_are_of_the_jacobian():
    given, directions = styles(), torch.randn(2, 3, 2, 2, dtype=torch.float64)
    images = images_of(*given)
    lengths = path_lengths(images, [*given, given[0][..., :0]], directions)
    jacobians = torch.autograd.functional.jacobian(images_of, tuple(given))
    for image in range(2):
        squares = 0.0
        for jacobian in jacobians:
            own = jacobian[image].select(3, image).flatten(3)  # [3,2,2,W], of the image towards its own styles
            squares += (own * directions[image][..., None]).sum((0, 1, 2)).square().sum()
        torch.testing.assert_close(lengths[image], (squares / 3).sqrt())  # three layers


def test_layers_that_pictures_do_not_use_count_with_zero():
    given, directions = styles(), torch.randn(2, 3, 2, 2, dtype=torch.float64)
    images = images_of(given[0], given[1].detach())
    both, one = (path_lengths(images, some, directions) for some in (given, given[:1]))
    torch.testing.assert_close(both, one * math.sqrt(2 / 3))
    empty = path_lengths(0 * images_of(*given), given, directions)
    assert torch.equal(empty, torch.zeros(2, dtype=torch.float64))
    empty.sum().backward()
    assert all(torch.isfinite(w.grad).all() for w in given)


def test_penalty_is_weighed_for_the_steps_between_and_follows_the_mean():
    term, normal = PathLength(OPTIONS, torch.device("cpu")), torch.randn(2, 3, 2, 2, dtype=torch.float64)
    term.mean = term.mean.double()
    given = styles()
    lengths = path_lengths(images_of(*given), given, normal / 2).detach()  # 2 x 2 pixels
    mean = 0.0
    for _ in range(2):
        weighed, plain = term(images_of(*given), given, normal)
        mean = 0.75 * mean + 0.25 * lengths.mean().item()
        assert term.mean.item() == pytest.approx(mean, rel=1e-6)
        assert plain.item() == pytest.approx((lengths - mean).square().mean().item(), rel=1e-6)
        assert weighed.item() == pytest.approx(2 * 4 * plain.item())
    weighed.backward()
    assert given[0].grad.abs().max() > 0


def test_when_and_of_which_images():
    term = PathLength(OPTIONS, torch.device("cpu"))
    assert [step for step in range(9) if term.due(step)] == [0, 4, 8]
    assert [list(range(batch))[term.images] for batch in (1, 4, 5)] == [[0], [0, 2], [0, 2, 4]]
    assert not any(PathLength(RegulariserConfig(), torch.device("cpu")).due(step) for step in range(9))


def test_styles_of_a_frozen_mapping_become_leaves():
    fixed, learned = torch.randn(1, 2), torch.randn(1, 2, requires_grad=True) * 2
    first, second = differentiable((fixed, learned))
    assert first.requires_grad and torch.equal(first, fixed) and second is learned


@pytest.mark.parametrize("name", ["path_length_every", "path_length_shrink", "path_length_decay"])
def test_options_out_of_range(name):
    with pytest.raises(ValueError, match=name):
        RegulariserConfig(**{name: 0})
