"""Which calls our ops cover; what they do not, the host's own forward runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from ..ops._autocast import autocast_on
from ..ops._registry import DEVICES, DTYPES

_MANY_SAMPLES = 4  # the host makes a weight for each, which then takes longer than packing one
_MANY_ROWS = 1024  # 512 to 512 for 64 points of one sample takes 1.9 times as long as the host's, 1024 as long
_FEW_COLOURS = 4  # 512 to 3 for 4096 points takes up to 1.2 times as long as the host's forward, but half of both
_FEW_POINTS = 256  # 512 to 512 for 64 points of one sample: 1.2 times; for 256, or 16 of two samples, as long or less
_TEXELS_A_POINT = 32  # with 40 sampling takes 1.0 to 1.4 times as long as the host's, with 20 0.7
_TEXELS_A_TRAINED_POINT = 80  # forward and backward: with 120 1.0 to 2.2 times, with 40 0.5 to 0.9


def dense(*tensors: Any) -> bool:
    """Whether all are dense floating-point tensors of one device that has kernels, outside transforms of functions."""
    first = tensors[0]
    return all(
        isinstance(t, Tensor)
        and t.layout == torch.strided
        and t.dtype in DTYPES
        and t.device == first.device
        and (t.device.type in DEVICES or t.is_meta)
        for t in tensors
    ) and (torch.compiler.is_compiling() or not _transformed())


def plain(number: Any) -> bool:
    """Whether an op takes it for an option: a graph of torch.compile holds NumPy's numbers as tensors."""
    return isinstance(number, (int, float))


def one_dtype(*tensors: Tensor) -> bool:
    """Whether an op takes these together: all of one dtype, or under autocast, which brings them to one."""
    first = tensors[0]
    return autocast_dtype(first) is not None or all(t.dtype == first.dtype for t in tensors)


def autocast_dtype(tensor: Tensor) -> torch.dtype | None:
    """The dtype of matrix products under autocast, None outside of it and for float64."""
    active = autocast_on(tensor) and tensor.dtype != torch.float64
    return torch.get_autocast_dtype(tensor.device.type) if active else None


def enough_channels(x: Tensor, outputs: int) -> bool:
    """Whether modfc pays on x [B,I,*], whose channels come second: on a CPU wherever gradients may follow, and in
    forward alone not for few outputs, as colours, nor on few points of one sample."""
    if x.device.type != "cpu" or torch.is_grad_enabled():
        return True
    return outputs > _FEW_COLOURS and (x.shape[0] > 1 or x.shape[2:].numel() >= _FEW_POINTS)


def enough_rows(x: Tensor, inputs: int) -> bool:
    """Whether modfc pays on x of rows of `inputs` numbers: on a CPU not on few rows of one to three samples."""
    return x.device.type != "cpu" or x.shape[0] >= _MANY_SAMPLES or x.numel() >= _MANY_ROWS * inputs


def enough_points(grids: Tensor, texels: int, points: Tensor) -> bool:
    """Whether sampling all texels of planes or volumes at points [*,3] pays: on a CPU the ops bring all channels last
    first, which for few points takes longer than reading theirs as they lie."""
    trained = torch.is_grad_enabled() and grids.requires_grad
    most = _TEXELS_A_TRAINED_POINT if trained else _TEXELS_A_POINT
    return grids.device.type != "cpu" or texels <= most * points[..., 0].numel()


def unhooked(*modules: nn.Module) -> bool:
    """Whether calls of these modules can be left out: no hook of a user waits for them."""
    return not any(
        m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks for m in modules
    )


def _transformed() -> bool:
    """Whether torch.func transforms or forward-mode derivatives are at work, which the ops do not have, or tracing,
    whose graphs shall run without this package."""
    return (
        forward_ad._current_level >= 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch.jit.is_tracing()
    )
