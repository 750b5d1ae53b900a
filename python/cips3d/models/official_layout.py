"""How an official state dict and one of our models correspond: a list of entries, read both ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Entry:
    """One key of the official state dict.

    name        the parameter or buffer of our model, None for a tensor that the official forward pass never uses
    transposed  official [1,I,O], ours [O,I]; otherwise the layouts are equal
    unused      what an export writes where no value was loaded: the official initialisation, or zeros
    """

    key: str
    name: str | None
    transposed: bool = False
    unused: Tensor | None = None

    def to_ours(self, tensor: Tensor) -> Tensor:
        return tensor.squeeze(0).mT.contiguous() if self.transposed else tensor

    def to_official(self, tensor: Tensor) -> Tensor:
        return tensor.mT.unsqueeze(0).contiguous() if self.transposed else tensor


Layout = list[Entry]


def shape_of(state: Mapping[str, Tensor], key: str, axes: int) -> tuple[int, ...]:
    """The shape of an entry that the configuration is read from."""
    if key not in state or state[key].ndim != axes:
        seen = list(state[key].shape) if key in state else "no such key"
        raise ValueError(f"load_official: {key} must have {axes} axes, got {seen}; the state dict is incomplete")
    return tuple(state[key].shape)


def count_blocks(state: Mapping[str, Tensor], pattern: str, names: Iterable[str]) -> int:
    """How many blocks reach to the last of `names` with which any key starts with `pattern`.

    Any key counts: a block that lacks one of its tensors is then reported by the name of that tensor.
    """
    present = (place for place, name in enumerate(names, 1) if any(k.startswith(pattern.format(name)) for k in state))
    return max(present, default=0)
