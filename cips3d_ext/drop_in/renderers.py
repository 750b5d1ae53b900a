"""The renderers of all hosts: objects whose methods call known rendering functions, found by those functions.

A class is not known by its name here: any module, or plain object that a module holds, one of whose methods leads to
`fancy_integration`, `sample_pdf`, `sample_from_planes` ... gets methods that call ours (see `_functions`).
"""

from __future__ import annotations

from typing import Any

from ._adapter import Adapter
from ._functions import FUNCTIONS, METHODS, overrides

FAMILIES = tuple(dict.fromkeys(known.family for known in (*FUNCTIONS, *METHODS)))


def _members(host: type, families: frozenset[str]) -> dict[str, Any]:
    return overrides(host, families).members


def _abilities(host: type, families: frozenset[str]) -> tuple[frozenset[str], list[str]]:
    found = overrides(host, families)
    return found.families, found.kept


ADAPTERS = (Adapter("any", (), FAMILIES, lambda _: "", _members, abilities=_abilities),)
