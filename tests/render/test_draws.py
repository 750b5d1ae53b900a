"""`Draws`: what is given is kept, what is missing is drawn, wrong shapes are named."""

import pytest
import torch

from cips3d.render import Draws
from cips3d.render.draws import complete_draws
from cips3d_ext import counter_uniform

SHAPE = {"batch": 2, "rays": 9, "samples": 4, "device": torch.device("cpu"), "dtype": torch.float32}
ALL = {**SHAPE, "hierarchical": True, "noisy": True, "permuted": True}


def test_missing_fields_come_from_the_generator():
    drawn = complete_draws(None, torch.Generator().manual_seed(0), **ALL)
    assert drawn.jitter.shape == drawn.u.shape == drawn.density_noise_coarse.shape == (2, 9, 4)
    assert drawn.density_noise.shape == (2, 9, 8)
    assert torch.equal(drawn.permutation.sort()[0], torch.arange(9))
    assert drawn.jitter.min() >= 0 and drawn.jitter.max() < 1 and drawn.density_noise.min() < 0
    again = complete_draws(None, torch.Generator().manual_seed(0), **ALL)
    assert torch.equal(again.density_noise, drawn.density_noise)
    given = complete_draws(Draws(jitter=torch.zeros(2, 9, 4)), torch.Generator().manual_seed(0), **ALL)
    assert not given.jitter.any()


def test_only_what_is_needed_is_drawn():
    drawn = complete_draws(None, None, **SHAPE, hierarchical=False, noisy=False, permuted=False)
    assert drawn.u is drawn.density_noise is drawn.density_noise_coarse is drawn.permutation is None
    assert (
        complete_draws(None, None, **SHAPE, hierarchical=False, noisy=True, permuted=False).density_noise.shape[-1] == 4
    )


def test_draws_from_a_seed_are_the_counters():
    drawn = Draws.from_seed(5, 2, 9, 4)
    assert torch.equal(drawn.jitter, counter_uniform(5, 2, 9, 4, stream=0))
    assert torch.equal(drawn.u, counter_uniform(5, 2, 9, 4, stream=1)) and not torch.equal(drawn.u, drawn.jitter)
    assert drawn.density_noise is None and complete_draws(drawn, None, **ALL).density_noise is not None


def test_none_is_not_random():
    nothing = Draws.none(batch=2, rays=9, samples=4)
    full = complete_draws(nothing, None, **ALL)
    assert (full.jitter == 0.5).all() and not full.density_noise.any() and not full.density_noise_coarse.any()
    torch.testing.assert_close(full.u[1, 3], torch.tensor([0.125, 0.375, 0.625, 0.875]))
    assert complete_draws(Draws.none(samples=4), None, **ALL).jitter.shape == (1, 1, 4)


def test_take_selects_rays():
    drawn = complete_draws(None, torch.Generator().manual_seed(0), **ALL)
    index = torch.tensor([5, 2])
    assert torch.equal(drawn.take(index).u, drawn.u[:, [5, 2]])
    assert drawn.take(slice(3, 6)).density_noise.shape == (2, 3, 8) and drawn.take(index).permutation is None


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        (
            Draws(jitter=torch.zeros(2, 8, 4)),
            r"jitter must broadcast to \[B,R,samples\] = \[2, 9, 4\], got \[2, 8, 4\]",
        ),
        (Draws(u=torch.zeros(9, 4)), r"u must broadcast to .*, got \[9, 4\]"),
        (Draws(density_noise=torch.zeros(2, 9, 4)), r"density_noise must broadcast to .* = \[2, 9, 8\]"),
        (Draws(permutation=torch.zeros(9, dtype=torch.int64)), "permutation must hold each of 0 .. 8 once"),
    ],
)
def test_errors(draws, message):
    with pytest.raises(ValueError, match=message):
        complete_draws(draws, None, **ALL)
