"""A trial: whether the accelerated forward of a layer gives what the layer's own forward gives.

It runs on a shadow of the layer, a copy with random parameters, so that terms that are zero in a fresh network count
too; the layer, its buffers, hooks and the random number generators are left alone.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ._adapter import Adapter
from ._swap import host_class

# Two orders of float32 operations differ by about 1e-5 on such layers; another formula by far more than this.
_TOLERANCE = 1e-3
# Over the root of the inputs: layers of all widths then give numbers about 1, and the arguments of sines, of which
# frequencies of 15 g + 30 are a factor, stay within float32.
_PARAMETER_SCALE = 0.5
_SEED = 0
# Inputs of other numbers than the parameters: products of equal ones are sums of squares, and sines of those far off.
_INPUT_SEED = 1


def shadow(module: nn.Module, generator: torch.Generator) -> Any:
    """A copy of a module without hooks, on the CPU in float32, with the host's class and random parameters."""
    clone: Any = object.__new__(host_class(module))
    state = dict(vars(module))
    for name, value in state.items():
        if isinstance(value, OrderedDict) and name.endswith(("hooks", "hooks_with_kwargs", "hooks_always_called")):
            state[name] = OrderedDict()
    state["_parameters"] = {name: _random(p, generator) for name, p in module._parameters.items()}
    state["_buffers"] = {name: _resident(b) for name, b in module._buffers.items()}
    state["_modules"] = {name: m and shadow(m, generator) for name, m in module._modules.items()}
    vars(clone).update(state)
    return clone


def _random(parameter: Tensor | None, generator: torch.Generator) -> nn.Parameter | None:
    if parameter is None:
        return None
    inputs = math.prod([size for size in parameter.shape if size > 1][1:])
    values = torch.randn(parameter.shape, generator=generator, device="cpu", dtype=torch.float32)
    return nn.Parameter(values * (_PARAMETER_SCALE / math.sqrt(inputs)), requires_grad=False)


def _resident(buffer: Tensor | None) -> Tensor | None:
    if buffer is None or buffer.is_meta:
        return None if buffer is None else torch.zeros(buffer.shape, device="cpu", dtype=torch.float32)
    dtype = torch.float32 if buffer.is_floating_point() else buffer.dtype
    return buffer.detach().to("cpu", dtype, copy=True)


@contextlib.contextmanager
def neutral() -> Iterator[None]:
    """What a trial runs in, whatever its caller has set: the CPU, float32, no gradients, no autocast.

    The random numbers go on from where they were.
    """
    state, dtype = torch.random.default_generator.get_state(), torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.no_grad(), torch.autocast("cpu", enabled=False), torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.random.default_generator.set_state(state)


def difference(module: nn.Module, adapter: Adapter, families: frozenset[str]) -> str:
    """How the accelerated forward of `module` differs from its own on a few random inputs; "" if it does not."""
    if adapter.trial is None:
        return ""
    try:
        with neutral():
            copied = shadow(module, torch.Generator().manual_seed(_SEED))
            torch.random.default_generator.manual_seed(_INPUT_SEED)
            args = adapter.trial(copied)
            buffers = {name: buffer.clone() for name, buffer in copied.named_buffers()}
            own = _run(type(copied).forward, copied, args)
            for name, buffer in copied.named_buffers():  # a training call may have moved a running mean on
                buffer.copy_(buffers[name])
            ours = _run(adapter.members(type(copied), families)["forward"].fused, copied, args)
    except Exception as error:  # whatever a look-alike's forward raises
        return f"a trial call fails: {type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    if type(own) is not type(ours):
        return f"its forward returns {type(own).__name__}, not {type(ours).__name__}"
    pairs = [(own, ours)] if isinstance(own, Tensor) else list(zip(own, ours, strict=True))
    return next((text for text in (_compare(a, b) for a, b in pairs) if text), "")


def _run(forward: Callable[..., Any], copied: Any, args: tuple[Any, ...]) -> Any:
    torch.random.default_generator.manual_seed(_SEED)
    return forward(copied, *copy.deepcopy(args))  # a forward may write to its inputs and to buffers


def _compare(own: Any, ours: Any) -> str:
    if not isinstance(own, Tensor):
        return "" if own is ours or own == ours else "its forward returns other values"
    if own.shape != ours.shape:
        return f"its forward returns {list(own.shape)}, where the known layer returns {list(ours.shape)}"
    error = (own - ours).abs().max() / own.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    return "" if error < _TOLERANCE else f"its forward computes something else (largest difference {float(error):.1g})"
