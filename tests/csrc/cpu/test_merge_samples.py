"""merge_samples, gather and scatter on the CPU at each SIMD level: equal to torch, bit for bit."""

import pytest
import torch

from cips3d_ext import reference

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# (P, Sa, Sb): rows around the vectors, one set empty, both sides of the switch from counting to merging (128).
SIZES = [(3, 1, 1), (5, 12, 12), (2, 17, 3), (4, 0, 6), (4, 6, 0), (1, 64, 64), (3, 65, 64), (2, 200, 100), (0, 3, 4)]


def draw(P: int, Sa: int, Sb: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Unsorted depths with many ties."""
    generator = torch.Generator().manual_seed(Sa)
    levels = max(2, (Sa + Sb) // 3)
    z = torch.randint(0, levels, (P, Sa + Sb), generator=generator) / levels
    return z[:, :Sa].to(dtype), z[:, Sa:].to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_order(cpu_level, size, dtype):
    z_a, z_b = draw(*size, dtype)
    z, order = torch.ops.cips3d_ext.merge_samples(z_a, z_b)
    wanted_z, wanted_order = reference.merge_samples(z_a, z_b)
    assert z.dtype == dtype and torch.equal(z, wanted_z)
    assert order.dtype == torch.int64 and torch.equal(order, wanted_order)


@pytest.mark.parametrize("count", [6, 90])
def test_order_of_unusual_depths(cpu_level, count):
    """NaN lies behind infinity, equal ones keep their places, -0 equals 0."""
    unusual = torch.tensor([torch.nan, torch.inf, 0.0, -0.0, -torch.inf, 1.0])
    z_a = unusual.repeat(count // 6)[None].contiguous()
    z_b = z_a.flip(-1).contiguous()
    z, order = torch.ops.cips3d_ext.merge_samples(z_a, z_b)
    wanted_z, wanted_order = reference.merge_samples(z_a, z_b)
    assert torch.equal(order, wanted_order)
    torch.testing.assert_close(z, wanted_z, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("channels", [0, 1, 2, 3, 8, 35, 64, 259])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_features_move_and_come_back(cpu_level, dtype, channels):
    P, Sa, Sb = 5, 7, 4
    _, order = torch.ops.cips3d_ext.merge_samples(*draw(P, Sa, Sb, torch.float32))
    a = torch.randn(P, Sa, channels).to(dtype)
    b = torch.randn(P, Sb, channels).to(dtype)
    merged = torch.ops.cips3d_ext.merge_samples_gather(a, b, order)
    assert merged.dtype == dtype and torch.equal(merged, reference.merge_samples_gather(a, b, order))
    back_a, back_b = torch.ops.cips3d_ext.merge_samples_scatter(merged, order, Sa)
    assert torch.equal(back_a, a) and torch.equal(back_b, b)


def test_threads_give_the_same_bits(cpu_level, one_and_two_threads):
    z_a, z_b = draw(300, 5, 6, torch.float32)
    results = []
    for threads in one_and_two_threads:
        torch.set_num_threads(threads)
        order = torch.ops.cips3d_ext.merge_samples(z_a, z_b)[1]
        results.append((order, torch.ops.cips3d_ext.merge_samples_gather(z_a[..., None], z_b[..., None], order)))
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))
