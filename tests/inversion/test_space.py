"""Whitened styles have the mean and the covariance of what the mapping network makes."""

import pytest
import torch

from cips3d.inversion.space import CodeSpace, StyleSpace, latent_space
from cips3d.models.base import Mapping
from cips3d.models.mapping import MappingNetwork


@pytest.fixture
def mapping() -> Mapping:
    network = MappingNetwork(5, 7, layers=2, layer_norm=False).requires_grad_(False)
    return Mapping(5, network, next(network.parameters()))


def test_styles_are_distributed_as_those_of_codes(mapping):
    source = torch.Generator().manual_seed(3)
    wanted = mapping.styles(torch.randn(20_000, 5, generator=source))
    styles = StyleSpace(mapping).styles(torch.randn(20_000, 7, generator=source))
    scale = wanted.std()
    torch.testing.assert_close(styles.mean(0), wanted.mean(0), rtol=0, atol=0.03 * scale.item())
    torch.testing.assert_close(torch.cov(styles.mT), torch.cov(wanted.mT), rtol=0, atol=0.05 * scale.item() ** 2)


def test_a_search_begins_at_the_mean_style_without_penalty(mapping):
    space = StyleSpace(mapping)
    x = space.start(3, torch.Generator())
    torch.testing.assert_close(space.styles(x), space.mean.expand(3, -1))
    assert torch.equal(space.prior(x), torch.zeros(3))
    assert torch.equal(space.prior(x + 2), torch.full((3,), 4.0))


def test_codes_are_drawn_from_the_seed_and_all_as_likely(mapping):
    space = latent_space("z", mapping)
    assert isinstance(space, CodeSpace)
    x = space.start(2, torch.Generator().manual_seed(1))
    assert torch.equal(x, space.start(2, torch.Generator().manual_seed(1)))
    assert not torch.equal(x, space.start(2, torch.Generator().manual_seed(2)))
    assert torch.equal(space.styles(x), mapping.styles(x)) and torch.equal(space.prior(x), torch.zeros(2))


def test_unknown_space(mapping):
    with pytest.raises(ValueError, match="wanted one of w, z, got 'x'"):
        latent_space("x", mapping)
