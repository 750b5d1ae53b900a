"""counter_uniform: Philox's published vectors, the documented places, independence of the way it is cut."""

import pytest
import torch

from cips3d_ext import counter_uniform
from cips3d_ext.counter_random import philox

# counter, key -> block: the known answers of Philox4x32-10 that Random123 publishes
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "block"), KNOWN)
def test_known_answers(counter, key, block):
    assert [int(word) for word in philox(tuple(torch.tensor(c) for c in counter), key)] == list(block)


def test_each_number_has_its_place():
    seed, stream = 0x123456789ABCDEF0, 7
    drawn = counter_uniform(seed, 3, 5, 6, stream=stream)
    for b, r, s in ((0, 0, 0), (2, 4, 5), (1, 3, 4), (2, 0, 3)):
        counter = tuple(torch.tensor(c) for c in (s // 4, r, b, stream))
        word = int(philox(counter, (seed & 0xFFFFFFFF, seed >> 32))[s % 4])
        assert drawn[b, r, s].item() == (word >> 8) / 2**24
    assert torch.equal(counter_uniform(seed, 3, 2, 6, stream=stream, first_ray=3), drawn[:, 3:])
    assert torch.equal(counter_uniform(seed, 3, 5, 6, stream=stream, dtype=torch.float64), drawn.double())
    assert counter_uniform(seed, 0, 5, 6).shape == (0, 5, 6)


def test_it_is_uniform_and_streams_differ():
    drawn = counter_uniform(1, 2, 1000, 12)
    assert drawn.min() >= 0 and drawn.max() < 1
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.01)
    assert drawn.histc(10, 0, 1).div(drawn.numel()).sub(0.1).abs().max() < 0.01
    for other in (counter_uniform(2, 2, 1000, 12), counter_uniform(1, 2, 1000, 12, stream=1)):
        assert torch.corrcoef(torch.stack([drawn.flatten(), other.flatten()]))[0, 1].abs() < 0.03


@pytest.mark.parametrize(("seed", "options"), [(-1, {}), (2**64, {}), (0, {"stream": -1}), (0, {"stream": 2**32})])
def test_seeds_outside_are_refused(seed, options):
    with pytest.raises(ValueError, match=r"counter_uniform: seed must be 0 to 2\^64 - 1 and stream"):
        counter_uniform(seed, 1, 1, 1, **options)
    with pytest.raises(ValueError, match="counter_uniform: dtype must be float32 or float64, got torch.float16"):
        counter_uniform(0, 1, 1, 1, dtype=torch.float16)
