"""What an adapter is: how one kind of layer of a public 3D GAN is known, and what runs in its place."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

STRANGER = "shares nothing but a name with it"  # a misfit that no report mentions
FAMILIES = ("modfc", "film_sine", "volume_render", "sample_pdf", "sample_planes", "sample_volume")

Members = Callable[[type, frozenset[str]], Mapping[str, Any]]


@dataclass(frozen=True)
class Adapter:
    """One kind of object of one public repository.

    host: the repository, as reports name it.
    classes: the names of its classes, which stand for classes that inherit from them too. Those of other repositories
        may be called the same.
    families: what its subclass can accelerate; some of them may be switched off.
    misfit(object): why an object of such a name is not what this adapter knows, "" if it is, STRANGER where the name
        alone is the same. Looks and changes nothing.
    members(class, families): what a subclass of the object's class defines, so that `families` of it run our ops.
    trial(shadow): arguments for a trial call of an nn.Module's forward, or None for no trial. `shadow` is a copy of the
        module with random parameters, on the CPU in float32; it may be made smaller. On it the subclass's forward must
        give what the host's own gives: so layers that merely look alike are found and left alone.
    abilities(class, families): which of the families a class of any name has, and the known functions in it that stay
        the host's, each with its reason. With it `classes` is empty: objects are known by what their methods call.
    """

    host: str
    classes: tuple[str, ...]
    families: tuple[str, ...]
    misfit: Callable[[Any], str]
    members: Members
    trial: Callable[[Any], tuple[Any, ...]] | None = None
    abilities: Callable[[type, frozenset[str]], tuple[frozenset[str], list[str]]] | None = None

    def able(self, host: type, families: frozenset[str]) -> tuple[frozenset[str], list[str]]:
        """What of `families` to try on objects of a class, and what in it stays the host's, with reasons."""
        if self.abilities is not None:
            return self.abilities(host, families.intersection(self.families))
        named = any(base.__name__ in self.classes for base in host.__mro__)
        return (families.intersection(self.families) if named else frozenset()), []


def guarded_forward(covers: Callable[..., bool], fused: Callable[..., Any]) -> Members:
    """Members of a layer whose forward is `fused(module, ...)` where `covers(module, ...)`, and else the host's own.

    The forward has `fused` as an attribute, for trials: `covers` may send small inputs to the host.
    """

    def members(host: Any, families: frozenset[str]) -> dict[str, Any]:
        own = host.forward

        @functools.wraps(own)
        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            if covers(self, *args, **kwargs):
                return fused(self, *args, **kwargs)
            return own(self, *args, **kwargs)

        vars(forward)["fused"] = fused
        return {"forward": forward}

    return members


def unlike(module: Any, known: Callable[..., Any], *names: str) -> str:
    """Why a module is not one with these attributes whose forward is called as `known`: "" if it is."""
    other = _takes_other(module, known)
    if other and not any(hasattr(module, name) for name in names):
        return STRANGER
    return lacks(module, *names) or other


def lacks(module: Any, *names: str) -> str:
    """Why a module is not the known one: "" if it has all these attributes."""
    missing = [name for name in names if not hasattr(module, name)]
    return f"it has no attribute {', '.join(missing)}" if missing else ""


def _takes_other(module: Any, known: Callable[..., Any]) -> str:
    """Why a module's forward is not called as `known(module, ...)` is: "" if its arguments are the first of those."""
    takes, expected = (_arguments(f) for f in (type(module).forward, known))
    return "" if takes == expected[: len(takes)] else f"its forward takes ({', '.join(takes)})"


def _arguments(function: Callable[..., Any]) -> list[str]:
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return [f"**{p.kind.name}" if p.kind is p.VAR_KEYWORD else p.name for p in parameters]
