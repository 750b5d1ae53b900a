"""Uniform numbers that are a function of seed and place: the same bits on every device, whole or in pieces.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) in integer operations of torch. The
number of image b, ray r, sample s in a stream is word s mod 4 of the block with

    counter = (s div 4, r, b, stream)        key = (seed mod 2^32, seed div 2^32)

and its value the word's upper 24 bits times 2^-24: exact in float32, and the same number in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_WORDS = 4  # of a block
_LOW = 0xFFFFFFFF  # the lower 32 bits
_FRACTION_BITS = 24  # a float32 has as many


def counter_uniform(
    seed: int,
    batch: int,
    rays: int,
    samples: int,
    *,
    stream: int = 0,
    first_ray: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """[batch,rays,samples] uniform in [0,1) for rays first_ray, first_ray + 1, ...: jitter and u of `render_rays`.

    seed: 0 to 2^64 - 1; stream: 0 to 2^32 - 1, another for every other use of a seed. dtype: float32 or float64.
    Raises ValueError for a seed, stream or dtype outside of these.
    """
    if not 0 <= seed < 1 << 64 or not 0 <= stream <= _LOW:
        raise ValueError(
            f"counter_uniform: seed must be 0 to 2^64 - 1 and stream 0 to 2^32 - 1, got seed={seed}, stream={stream}"
        )
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"counter_uniform: dtype must be float32 or float64, got {dtype}")

    def axis(start: int, count: int, *shape: int) -> Tensor:
        return torch.arange(start, start + count, device=device).view(shape)

    blocks = -(-samples // _WORDS)
    counter = (
        axis(0, blocks, 1, 1, -1),
        axis(first_ray, rays, 1, -1, 1),
        axis(0, batch, -1, 1, 1),
        axis(stream, 1, 1, 1, 1),
    )
    words = torch.stack(philox(counter, (seed & _LOW, seed >> 32)), -1).flatten(-2)[..., :samples]
    return (words >> 32 - _FRACTION_BITS).to(dtype) * 2.0**-_FRACTION_BITS


def philox(counter: tuple[Tensor, ...], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Four words (int64 below 2^32) of the blocks with counters (four words, of shapes that broadcast) and this key."""
    a, b, c, d = torch.broadcast_tensors(*counter)
    for _ in range(_ROUNDS):
        (high_a, low_a), (high_c, low_c) = _multiply(a, _MULTIPLIERS[0]), _multiply(c, _MULTIPLIERS[1])
        a, b, c, d = high_c ^ b ^ key[0], low_c, high_a ^ d ^ key[1], low_a
        key = ((key[0] + _KEY_STEPS[0]) & _LOW, (key[1] + _KEY_STEPS[1]) & _LOW)
    return a, b, c, d


def _multiply(x: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Upper and lower 32 bits of x * factor, by halves of the factor: int64 has no room for the product."""
    upper, lower = x * (factor >> 16), x * (factor & 0xFFFF)
    return (upper + (lower >> 16)) >> 16, (((upper & 0xFFFF) << 16) + lower) & _LOW
