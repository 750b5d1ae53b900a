"""Merging of two sets of samples along rays by depth: the order once, then each feature by that order.

Axes: P rays (any leading axes, flattened), Sa and Sb samples of the two sets, C features.
"""

import torch
from torch import Tensor


def merge_samples(z_a: Tensor, z_b: Tensor) -> tuple[Tensor, Tensor]:
    """Depths z [P,Sa+Sb] in increasing order and `order` (int64, same shape): positions in cat([z_a, z_b], -1).

    z_a [P,Sa], z_b [P,Sb], in any order themselves. Stable: of equal depths a comes before b, earlier before later.
    """
    z, order = torch.sort(torch.cat([z_a, z_b], -1), dim=-1, stable=True)
    return z, order


def merge_samples_gather(a: Tensor, b: Tensor, order: Tensor) -> Tensor:
    """Features a [P,Sa,C] and b [P,Sb,C] merged by `order` -> [P,Sa+Sb,C]."""
    both = torch.cat([a, b], 1)
    return both.gather(1, _feature_index(order, both))


def merge_samples_scatter(grad: Tensor, order: Tensor, count_a: int) -> tuple[Tensor, Tensor]:
    """The gradients [P,Sa,C], [P,Sb,C] of a and b from that of their merge [P,Sa+Sb,C]; count_a = Sa."""
    both = torch.zeros_like(grad).scatter(1, _feature_index(order, grad), grad)
    return both[:, :count_a].contiguous(), both[:, count_a:].contiguous()


def _feature_index(order: Tensor, features: Tensor) -> Tensor:
    return order.unsqueeze(-1).expand_as(features)
