"""Whether a decoder takes of its planes' features only their mean: then the op need not make them one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

_POINTS = 4
_TOLERANCE = 1e-4  # relative: a mean in another order of float32 operations
_known: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def only_averages(decoder: Any, planes: int, channels: int, call: Callable[[nn.Module, Tensor, Tensor], Any]) -> bool:
    """Whether decoder(features [B,P,N,C]) = decoder(mean over P, [B,1,N,C]), tried once for each decoder.

    call(decoder, features, points [1,N,3]) runs it. Random number generators and hooks of the decoder are left alone.
    """
    if not isinstance(decoder, nn.Module) or planes == 1:
        return False
    if decoder not in _known:
        _known[decoder] = _tried(decoder, planes, channels, call)
    return _known[decoder]


def _tried(decoder: nn.Module, planes: int, channels: int, call: Callable[[nn.Module, Tensor, Tensor], Any]) -> bool:
    first = next(decoder.parameters(), None)
    device = torch.device("cpu") if first is None else first.device
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(1, planes, _POINTS, channels, generator=generator).to(device)
    points = torch.rand(1, _POINTS, 3, generator=generator).to(device)
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        try:
            own, ours = call(decoder, features, points), call(decoder, features.mean(1, keepdim=True), points)
        except Exception:  # whatever another decoder says of such inputs
            return False
    return _equal(own, ours)


def _equal(own: Any, ours: Any) -> bool:
    if isinstance(own, dict) and isinstance(ours, dict):
        return own.keys() == ours.keys() and all(_equal(own[key], ours[key]) for key in own)
    if not isinstance(own, Tensor) or not isinstance(ours, Tensor) or own.shape != ours.shape:
        return False
    return bool((own - ours).abs().max() <= _TOLERANCE * own.abs().max())
