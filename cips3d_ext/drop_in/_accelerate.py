"""`accelerate` and `undo`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from torch import nn
from torch.nn.utils import parametrize

from ._adapter import FAMILIES, STRANGER, Adapter
from ._hosts import ADAPTERS
from ._swap import families_of, host_class, restore, swap
from ._trial import difference


class Entry(NamedTuple):
    """A layer of the model."""

    name: str  # its path in the model, as named_modules has it
    cls: str  # the name of the host's class
    reason: str  # what of it runs on our ops, by family, or why nothing does


class Report(NamedTuple):
    """The known layers of a model: which are accelerated, by this or an earlier call, and which are not, and why."""

    swapped: list[Entry]
    skipped: list[Entry]

    def __str__(self) -> str:
        lines = [f"{len(self.swapped)} accelerated, {len(self.skipped)} not"]
        for mark, entries in (("+", self.swapped), ("-", self.skipped)):
            lines += [f"  {mark} {entry.name} ({entry.cls}): {entry.reason}" for entry in entries]
        return "\n".join(lines)


class _Found(NamedTuple):
    thing: Any
    adapter: Adapter
    families: frozenset[str]


def accelerate(model: nn.Module, *, families: Iterable[str] | None = None, strict: bool = False) -> Report:
    """Runs the known layers of another 3D GAN on our ops, in place; numbers, parameters and random draws stay.

    Each known layer, found by its class's name and structure and confirmed by a trial call on random parameters, gets
    an importable subclass of its own class. No parameter, buffer, key or flag changes. A call that the op does not
    cover (dtypes, layouts, options, forward-mode derivatives) runs the host's own code. A deep copy stays
    accelerated; what pickle and torch.save write is the host's, so it loads anywhere, and is accelerated again by
    another call. Other models are not affected, and a second call changes nothing.

    Args:
        model: any nn.Module that contains layers of pi-GAN, CIPS-3D, StyleSDF, CIPS, EG3D, StyleGAN2, StyleNeRF,
            VolumeGAN, EpiGRAF ... The README lists them.
        families: what to accelerate, of `FAMILIES`; None for all.
        strict: raise where a known layer would be left as it is; nothing is changed then.

    Returns: Report(swapped, skipped), two lists of (name, class, reason).
    Raises: TypeError if `model` is no nn.Module, ValueError for unknown families, and with `strict`.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"accelerate: model must be a torch.nn.Module, got {type(model).__name__}")
    wanted = frozenset(FAMILIES if families is None else families)
    if not wanted <= set(FAMILIES):
        raise ValueError(f"accelerate: families must be of {FAMILIES}, got {sorted(wanted - set(FAMILIES))}")
    found: list[_Found] = []
    report = Report([], [])
    for name, thing in _candidates(model):
        _examine(name, thing, wanted, found, report)
    if strict and report.skipped:
        listed = "; ".join(f"{entry.name} ({entry.cls}): {entry.reason}" for entry in report.skipped)
        raise ValueError(f"accelerate: strict=True, and these layers would be left as they are: {listed}")
    for one in found:
        swap(one.thing, one.adapter, one.families)
    return report


def undo(model: nn.Module) -> None:
    """Gives every layer of the model the class it had before `accelerate`."""
    for _, thing in _candidates(model):
        restore(thing)


def _candidates(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Every object of the model: its modules, and plain objects that they hold."""
    seen: set[int] = set()
    for path, module in list(model.named_modules()):
        held = [(f"{path}.{key}".strip("."), value) for key, value in vars(module).items()]
        for name, thing in [(path, module), *held]:
            if hasattr(thing, "__dict__") and not isinstance(thing, type) and id(thing) not in seen:
                seen.add(id(thing))
                yield name, thing


def _changed(thing: Any) -> str:
    """Why an object is no longer what its class makes of it, "" if it is."""
    if "forward" in vars(thing):
        return "its forward is replaced on the instance"
    # Its class is made for it alone, and removing the parametrization gives it the class below, whatever that is then.
    parametrized = isinstance(thing, nn.Module) and parametrize.is_parametrized(thing)
    return "its parameters are parametrized" if parametrized else ""


def _examine(name: str, thing: Any, wanted: frozenset[str], found: list[_Found], report: Report) -> None:
    """Adds what becomes of one object to `found` and `report`."""
    host = host_class(thing)
    cls = host.__name__
    reasons = []
    for adapter in ADAPTERS:
        families, kept = adapter.able(host, wanted)
        report.skipped.extend(Entry(name, cls, reason) for reason in kept)
        if not families:
            continue
        families |= families_of(thing)
        reason = _changed(thing) or adapter.misfit(thing)
        if not reason and isinstance(thing, nn.Module) and not families <= families_of(thing):
            reason = difference(thing, adapter, families)
        if not reason:
            found.append(_Found(thing, adapter, families))
            report.swapped.append(Entry(name, cls, ", ".join(sorted(families))))
            return
        if reason != STRANGER:
            reasons.append(f"not {adapter.host}'s: {reason}")
    if reasons:
        report.skipped.append(Entry(name, cls, "; ".join(reasons)))
