"""The computing type of the references: float16 and bfloat16 are widened to float32, everything else stays as it is."""

from typing import overload

import torch
from torch import Tensor

_HALF_TYPES = (torch.float16, torch.bfloat16)


@overload
def widen(tensor: Tensor) -> Tensor: ...
@overload
def widen(tensor: None) -> None: ...
def widen(tensor: Tensor | None) -> Tensor | None:
    """`tensor` in the type the references compute in; None stays None."""
    if tensor is not None and tensor.dtype in _HALF_TYPES:
        return tensor.float()
    return tensor
