"""Whether a decoder takes of its planes' features only their mean: then the op need not make them one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ._trial import neutral, shadow

_POINTS = 4
_TOLERANCE = 1e-4  # relative: a mean in another order of float32 operations
_known: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def only_averages(decoder: Any, planes: int, channels: int, call: Callable[[nn.Module, Tensor, Tensor], Any]) -> bool:
    """Whether decoder(features [B,P,N,C]) = decoder(mean over P, [B,1,N,C]), tried once for each decoder.

    call(decoder, features, points [1,N,3]) runs it, on a shadow of the decoder: its hooks and buffers, and the random
    number generators, are left alone.
    """
    if not isinstance(decoder, nn.Module) or planes == 1:
        return False
    if decoder not in _known:
        _known[decoder] = _tried(decoder, planes, channels, call)
    return _known[decoder]


def _tried(decoder: nn.Module, planes: int, channels: int, call: Callable[[nn.Module, Tensor, Tensor], Any]) -> bool:
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(1, planes, _POINTS, channels, generator=generator, device="cpu")
    points = torch.rand(1, _POINTS, 3, generator=generator, device="cpu")
    try:
        with neutral():
            copied = shadow(decoder, generator)
            return _equal(call(copied, features, points), call(copied, features.mean(1, keepdim=True), points))
    except Exception:  # whatever another decoder says of such inputs
        return False


def _equal(own: Any, ours: Any) -> bool:
    if isinstance(own, dict) and isinstance(ours, dict):
        return own.keys() == ours.keys() and all(_equal(own[key], ours[key]) for key in own)
    if not isinstance(own, Tensor) or not isinstance(ours, Tensor) or own.shape != ours.shape:
        return False
    return bool((own - ours).abs().max() <= _TOLERANCE * own.abs().max())
