"""What an accelerated layer keeps of the layer it was, one case a kind of layer."""

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import cips3d_ext
from cips3d_ext.testing import assert_close


@dataclass(frozen=True)
class Case:
    """make() gives the host's layer, inputs() what its forward gets; op: the op that runs in its place, once a call."""

    name: str
    make: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Any, ...]]
    op: str
    options: dict[str, Any] = field(default_factory=dict)
    float64: bool = True  # whether the host's layer runs in float64

    def __str__(self) -> str:
        return self.name

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64 if self.float64 else torch.float32

    def layer(self) -> nn.Module:
        """The host's layer, all of whose parameters are random: some are zero or one when they are made."""
        layer = self.make()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
        return layer.to(self.dtype)

    def arguments(self) -> tuple[Any, ...]:
        """Fresh leaves."""
        torch.manual_seed(1)
        return tuple(a.to(self.dtype).detach().requires_grad_() if isinstance(a, Tensor) else a for a in self.inputs())


class CountedOps(TorchDispatchMode):
    """Counts the calls of our dispatcher ops."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "cips3d_ext":
            self.calls[func._schema.name.split("::")[1]] += 1
        return func(*args, **(kwargs or {}))


def accelerated(layer: nn.Module) -> nn.Module:
    """An accelerated copy."""
    holder = nn.ModuleDict({"layer": copy.deepcopy(layer)})
    report = cips3d_ext.accelerate(holder)
    assert "layer" in [entry.name for entry in report.swapped], str(report)
    return holder["layer"]


def tensors_of(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else [t for t in result if isinstance(t, Tensor)]


def second_derivatives(first: Tensor, inputs: list[Tensor], **options: Any) -> tuple[Tensor | None, ...]:
    """torch.autograd.grad; skips the test where PyTorch is older than its second derivatives of F.grid_sample."""
    try:
        return torch.autograd.grad(first, inputs, allow_unused=True, **options)
    except RuntimeError as error:
        if "grid_sampler" not in str(error):
            raise
    pytest.skip(f"the host's F.grid_sample has no second derivatives in torch {torch.__version__}; ours has")


def derivatives(layer: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> dict[str, list[Any]]:
    """Outputs, first derivatives by inputs and parameters, and those of the squared gradients by inputs."""
    leaves = [a for a in arguments if isinstance(a, Tensor)]
    parameters = list(layer.parameters())
    outputs = tensors_of(layer(*arguments, **options))
    generator = torch.Generator().manual_seed(2)
    cotangents = [torch.randn(o.shape, generator=generator).to(o) for o in outputs]
    loss = sum((o * c).sum() for o, c in zip(outputs, cotangents, strict=True))
    first = torch.autograd.grad(loss, [*leaves, *parameters], create_graph=True, allow_unused=True)
    squares = sum(g.square().sum() for g in first[: len(leaves)] if g is not None)
    second = second_derivatives(squares, [*leaves, *parameters])
    return {"output": outputs, "first": list(first), "second": list(second)}


def assert_same_numbers(case: Case, host: nn.Module, ours: nn.Module) -> None:
    """Outputs, derivatives of both orders, which of them are None, draws, and our op's calls."""
    found, states, counted = {}, {}, CountedOps()
    for name, layer in (("host", host), ("ours", ours)):
        arguments = case.arguments()
        torch.manual_seed(3)
        with counted:
            found[name] = derivatives(layer, arguments, case.options)
        states[name] = torch.get_rng_state()
        if name == "host":
            assert not counted.calls
    assert torch.equal(states["host"], states["ours"]), "other random draws"
    assert counted.calls[case.op] == 1, counted.calls
    with counted:
        sum(output.sum() for output in tensors_of(ours(*case.arguments(), **case.options))).backward()
    assert counted.calls[f"{case.op}_backward"] > 0, counted.calls
    for kind, expected in found["host"].items():
        for i, (seen, wanted) in enumerate(zip(found["ours"][kind], expected, strict=True)):
            if kind != "second":  # there a zero may be None or written out
                assert (seen is None) == (wanted is None), f"{kind}[{i}]"
            if seen is not None or wanted is not None:
                seen, wanted = (torch.zeros_like(b) if a is None else a for a, b in ((seen, wanted), (wanted, seen)))
                assert seen.dtype == wanted.dtype
                assert_close(seen, wanted, case.dtype, f"{kind}[{i}]")
