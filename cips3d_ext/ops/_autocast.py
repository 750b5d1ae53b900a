"""Autocast: which dtype it gives an op's tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def has_autocast(tensor: Tensor) -> bool:
    """Whether the tensor's device does. PyTorch's own is_autocast_available breaks graphs of torch.compile in 2.11."""
    return tensor.device.type != "meta"


def autocast_on(tensor: Tensor) -> bool:
    """Whether the tensor's device is under autocast."""
    return has_autocast(tensor) and torch.is_autocast_enabled(tensor.device.type)


def autocast_to_active(*tensors: Any) -> tuple[Any, ...]:
    """Under autocast, every tensor in the active dtype (float64 stays), as a matrix product would take it. They have
    passed check_tensors: floating point, one device.

    The cast is explicit, not PyTorch's register_autocast: that one is ignored by torch.compile before torch 2.13.
    """
    first = tensors[0]
    if not autocast_on(first):
        return tensors
    active = torch.get_autocast_dtype(first.device.type)
    return tuple(t if t is None or t.dtype == torch.float64 else t.to(active) for t in tensors)


def autocast_to_float32(*tensors: Any) -> tuple[Any, ...]:
    """Under autocast, every half-precision tensor in float32: for ops whose constants do not fit 16 bits."""
    return tuple(
        t if t is None or not autocast_on(t) or t.dtype not in (torch.float16, torch.bfloat16) else t.float()
        for t in tensors
    )
