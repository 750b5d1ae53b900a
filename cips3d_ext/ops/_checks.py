"""Argument checks, shared by the public functions and the fakes.

Every message names op, argument, what was wanted and what was seen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._registry import DTYPES


def check_shape(op: str, argument: str, tensor: Tensor, axes: str, *sizes: int | None) -> None:
    """Raises ValueError unless tensor's shape is `sizes` (None: any size). axes is its text, e.g. "[B,N,I]"."""
    if tensor.dim() != len(sizes) or any(
        want is not None and have != want for have, want in zip(tensor.shape, sizes, strict=True)
    ):
        wanted = ", ".join("any" if size is None else str(size) for size in sizes)
        raise ValueError(f"{op}: {argument} must be {axes} = [{wanted}], got {list(tensor.shape)}")


def check_choice(op: str, argument: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{op}: {argument} must be one of {choices}, got {value!r}")


def check_tensors(op: str, **tensors: Tensor | None) -> None:
    """Raises TypeError unless all given arguments are dense floating-point tensors, ValueError unless on one device."""
    first_name, first = next(iter(tensors.items()))
    for name, tensor in tensors.items():
        if tensor is None and name != first_name:
            continue
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{op}: {name} must be a torch.Tensor, got {type(tensor).__name__}")
        if tensor.dtype not in DTYPES:
            raise TypeError(f"{op}: {name} must be float64, float32, bfloat16 or float16, got {tensor.dtype}")
        if tensor.layout != torch.strided:
            raise TypeError(f"{op}: {name} must be a dense tensor, got layout {tensor.layout}; use {name}.to_dense()")
        if isinstance(first, Tensor) and tensor.device != first.device:
            raise ValueError(f"{op}: {name} is on {tensor.device} but {first_name} is on {first.device}")


def check_one_dtype(op: str, **tensors: Tensor | None) -> None:
    """Raises TypeError unless all given tensors have the dtype of the first."""
    (first_name, first), *others = [(name, t) for name, t in tensors.items() if t is not None]
    for name, tensor in others:
        if tensor.dtype != first.dtype:
            raise TypeError(
                f"{op}: {name} is {tensor.dtype} but {first_name} is {first.dtype}; "
                f"give all tensors one dtype, e.g. {name}.to({first_name}.dtype), or use torch.autocast"
            )
