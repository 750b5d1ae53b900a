"""Swapping an object's class for a subclass of it, and back.

The subclass is made once for each host class and set of families. Instances stay what they were: isinstance holds,
`__dict__` is untouched. What is saved of them is the host's: pickles and torch.save name the host class (or carry
its source, where that is the host's way) and load without this package. A deep copy keeps the swap.
"""

from __future__ import annotations

import copy
import sys
import types
from typing import Any

from ._adapter import Adapter

_made: dict[tuple[type, Adapter, frozenset[str]], type] = {}
_origin: dict[type, tuple[type, frozenset[str]]] = {}  # subclass -> host class, families


def host_class(thing: Any) -> type:
    """The class an object had before it was swapped; its class if it was not."""
    return _origin[type(thing)][0] if type(thing) in _origin else type(thing)


def families_of(thing: Any) -> frozenset[str]:
    """What of an object is accelerated."""
    return _origin[type(thing)][1] if type(thing) in _origin else frozenset()


def swap(thing: Any, adapter: Adapter, families: frozenset[str]) -> None:
    """Gives an object the subclass that runs `families` on our ops."""
    thing.__class__ = subclass(host_class(thing), adapter, families)


def restore(thing: Any) -> None:
    """Gives an object the class it had."""
    if type(thing) in _origin:
        thing.__class__ = host_class(thing)


def subclass(host: type, adapter: Adapter, families: frozenset[str]) -> type:
    """The subclass of `host` for these families; always the same one, and an attribute of this module by its name."""
    key = (host, adapter, families)
    if key not in _made:
        module = sys.modules[__name__]
        name = f"{host.__module__}.{host.__name__}.{'.'.join(sorted(families))}".replace(".", "_")
        while hasattr(module, name):  # another class of that name, as from a module that was imported twice
            name += "_"
        members: dict[str, Any] = {"__module__": __name__, "__qualname__": name, "__doc__": host.__doc__}
        members |= {"__reduce_ex__": _reduce_ex, "__deepcopy__": _deepcopy, "__copy__": _copy}
        members |= adapter.members(host, families)
        made = types.new_class(host.__name__, (host,), exec_body=lambda namespace: namespace.update(members))
        setattr(module, name, made)
        _made[key] = made
        _origin[made] = (host, families)
    return _made[key]


# Its way to save names the class to make, in every protocol; from 2 on pickle insists that it is the object's own.
_PROTOCOL = 1


def _reduce_ex(self: Any, protocol: Any) -> Any:
    """What the host's instance would save: asked of one that shares the state."""
    host: Any = object.__new__(host_class(self))
    object.__setattr__(host, "__dict__", vars(self))
    return host.__reduce_ex__(_PROTOCOL)


def _new_like(self: Any, memo: dict[int, Any] | None) -> Any:
    clone = object.__new__(type(self))
    if memo is not None:
        memo[id(self)] = clone  # before its state, which may refer to it
    state = dict(vars(self)) if memo is None else copy.deepcopy(vars(self), memo)
    if hasattr(clone, "__setstate__"):
        clone.__setstate__(state)
    else:
        vars(clone).update(state)
    return clone


def _deepcopy(self: Any, memo: dict[int, Any]) -> Any:
    return _new_like(self, memo)


def _copy(self: Any) -> Any:
    return _new_like(self, None)
