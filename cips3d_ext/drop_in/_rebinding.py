"""Copies of a host's methods that see replacements of some functions, while the host's modules stay untouched.

A generator calls module-level functions: `sample_pdf(...)`, `pigan_utils.fancy_integration(...)`. Replacing those in
their module would change every model of the process. Instead a copy of the method gets globals of its own: a view of
the module's, which looks up every name at every access and passes the value through `replace`. What a function calls
in turn is followed: a function that only leads to a replaced one is copied too, decorators with it.

CPython looks globals up through `__missing__` where they are a subclass of dict (LOAD_GLOBAL).
"""

from __future__ import annotations

import dis
import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

# Packages whose functions call no host's function.
_FOREIGN = frozenset(sys.stdlib_module_names) | {
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "einops",
    __name__.split(".")[0],
}
_MODULE_DEPTH = 3  # package.module.function is as far as hosts spell it


class View(dict[str, Any]):
    """Globals of a module, with some values replaced."""

    def __init__(self, live: dict[str, Any], replace: Callable[[Any], Any]) -> None:
        # What the making of a function reads without asking __missing__.
        super().__init__({name: live[name] for name in ("__builtins__",) if name in live})
        self._live, self._replace = live, replace

    def __contains__(self, name: object) -> bool:
        return name in self._live

    def __missing__(self, name: str) -> Any:
        return self._replace(self._live[name])


class ModuleView(types.ModuleType):
    """A module, with some of its attributes replaced."""

    def __init__(self, module: types.ModuleType, replace: Callable[[Any], Any]) -> None:
        super().__init__(module.__name__)
        vars(self).update(_viewed=module, _replace=replace)

    def __getattr__(self, name: str) -> Any:
        return self._replace(getattr(self._viewed, name))

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._viewed, name, value)


class Rebinder:
    """Copies functions so that they, and what they call, see `substitutes` (a host's function -> what replaces it).

    functions: those to be copied; of what they do not reach nothing is looked at.
    """

    def __init__(self, functions: Iterable[types.FunctionType], substitutes: Mapping[types.FunctionType, Any]) -> None:
        self._substitutes = substitutes
        self._leading = _leading_to(set(substitutes), functions)
        self._views: dict[int, View] = {}
        self._made: dict[Any, Any] = {}  # a function, module or class -> what takes its place

    def replace(self, value: Any) -> Any:
        """The value, or what takes its place."""
        if not isinstance(value, (types.FunctionType, types.ModuleType, type)) or _is_foreign(value):
            return value
        if value not in self._made:
            self._made[value] = self._make(value)
        return self._made[value]

    def _make(self, value: Any) -> Any:
        if isinstance(value, types.ModuleType):
            return ModuleView(value, self.replace)
        if isinstance(value, type):
            return self._class_view(value)
        if value in self._substitutes:
            return self._substitutes[value]
        # A copy that assigns globals would assign them in the view.
        return self._copy(value) if value in self._leading and not _assigns_globals(value.__code__) else value

    def _class_view(self, cls: type) -> type:
        """A class whose static methods are replaced: hosts call them as functions, Class.function(...)."""
        members: dict[str, Any] = {
            name: staticmethod(replaced)
            for name, function in _static_functions(cls)
            if (replaced := self.replace(function)) is not function
        }
        if not members:
            return cls
        # Instances of the class itself, and no others, are instances of what stands for it.
        asks = {"__instancecheck__": lambda _, instance: isinstance(instance, cls)}
        meta = types.new_class("View", (type(cls),), exec_body=lambda namespace: namespace.update(asks))
        members |= {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
        return meta(cls.__name__, (cls,), members)

    def _copy(self, function: types.FunctionType) -> types.FunctionType:
        live = function.__globals__
        if id(live) not in self._views:
            self._views[id(live)] = View(live, self.replace)
        closure = tuple(self._cell(cell) for cell in function.__closure__ or ()) or None
        defaults = tuple(self._function(value) for value in function.__defaults__ or ()) or None
        made = types.FunctionType(function.__code__, self._views[id(live)], function.__name__, defaults, closure)
        keywords = {name: self._function(value) for name, value in (function.__kwdefaults__ or {}).items()}
        made.__kwdefaults__, made.__annotations__ = keywords or None, function.__annotations__
        made.__qualname__, made.__module__, made.__doc__ = function.__qualname__, function.__module__, function.__doc__
        vars(made).update({name: self.replace(value) for name, value in vars(function).items()})  # __wrapped__ too
        return made

    def _cell(self, cell: types.CellType) -> types.CellType:
        """The same cell, or one of its own for a replaced function: a decorator closes over what it decorates."""
        content = _content(cell)
        replaced = self._function(content)
        return cell if replaced is content else types.CellType(replaced)

    def _function(self, value: Any) -> Any:
        """A function, or what takes its place; any other value as it is."""
        return self.replace(value) if isinstance(value, types.FunctionType) else value


def reachable(
    functions: Iterable[types.FunctionType], leaf: Callable[[types.FunctionType], bool] = lambda _: False
) -> Iterator[types.FunctionType]:
    """The functions, and those that they read from globals, modules, static methods, closures and defaults, and so on.

    What a leaf reads is not followed, nor what installed packages hold: hosts are checkouts, whose utilities may lead
    into any library. A function that is installed itself stays within its package.
    """
    waiting, seen = list(functions), set()
    homes = frozenset(_package(function) for function in waiting)
    while waiting:
        function = waiting.pop()
        if function not in seen and not _is_foreign(function, homes):
            seen.add(function)
            yield function
            waiting += () if leaf(function) else _read_by(function, homes)


def _leading_to(
    wanted: set[types.FunctionType], functions: Iterable[types.FunctionType]
) -> frozenset[types.FunctionType]:
    """All reachable functions from which one of `wanted` can be reached."""
    functions = list(functions)
    homes = frozenset(_package(function) for function in functions)
    reads = {function: set(_read_by(function, homes)) for function in reachable(functions)}
    leading: set[types.FunctionType] = set()
    while found := {f for f, read in reads.items() if f not in leading and read & (leading | wanted)}:
        leading |= found
    return frozenset(leading)


def methods_of(cls: type) -> Iterator[tuple[str, Any]]:
    """(name, function, staticmethod or classmethod) of a class and its bases, the host's alone, each name once."""
    seen: set[str] = set()
    for base in cls.__mro__:
        if _is_foreign(base):
            continue
        for name, member in vars(base).items():
            if name in seen:
                continue
            seen.add(name)
            if isinstance(member, (types.FunctionType, staticmethod, classmethod)):
                yield name, member


def _package(value: Any) -> str:
    """The name of the outermost package that a module, class or function is of."""
    module = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
    return str(module or "").split(".")[0]


def _is_foreign(value: Any, homes: frozenset[str] | None = None) -> bool:
    """Whether a value is of a package that calls no host's function, or installed and, if given, none of `homes`."""
    package = _package(value)
    return package in _FOREIGN or (homes is not None and package not in homes and _installed(package))


@functools.cache
def _installed(package: str) -> bool:
    module = sys.modules.get(package)
    places = [getattr(module, "__file__", None) or "", *getattr(module, "__path__", [])]
    return any(folder in Path(place).parts for place in places for folder in ("site-packages", "dist-packages"))


def _static_functions(cls: type) -> Iterator[tuple[str, types.FunctionType]]:
    """Static methods of a host's plain class; those of modules are found as their methods."""
    if not _is_foreign(cls) and not issubclass(cls, nn.Module):
        for name, member in vars(cls).items():
            if isinstance(member, staticmethod) and isinstance(member.__func__, types.FunctionType):
                yield name, member.__func__


def _read_by(function: types.FunctionType, homes: frozenset[str]) -> list[types.FunctionType]:
    """Functions that a function reads: globals, attributes of modules, static methods of classes, closure, defaults."""
    names = {name for code in _codes(function.__code__) for name in code.co_names}
    values = [_content(cell) for cell in function.__closure__ or ()]
    values += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for name in _globals_read(function.__code__):
        values += _reached(function.__globals__.get(name), names, homes, _MODULE_DEPTH)
    found = []
    for value in values:
        if isinstance(value, types.FunctionType):
            found.append(value)
        elif isinstance(value, type) and not _is_foreign(value, homes):
            found += [static for _, static in _static_functions(value)]
    return found


def _reached(value: Any, names: set[str], homes: frozenset[str], depth: int) -> Iterator[Any]:
    """The value, or what one of the names can mean as an attribute of the module."""
    if isinstance(value, (types.FunctionType, type)):
        yield value
    elif isinstance(value, types.ModuleType) and depth and not _is_foreign(value, homes):
        for name in names:
            yield from _reached(inspect.getattr_static(value, name, None), names, homes, depth - 1)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A function's code and that of the functions, lambdas and comprehensions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


@functools.cache
def _globals_read(code: types.CodeType) -> frozenset[str]:
    steps = [step for part in _codes(code) for step in dis.get_instructions(part)]
    return frozenset(step.argval for step in steps if step.opname == "LOAD_GLOBAL")


def _assigns_globals(code: types.CodeType) -> bool:
    written = ("STORE_GLOBAL", "DELETE_GLOBAL")
    return any(step.opname in written for part in _codes(code) for step in dis.get_instructions(part))


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a cell that is not filled yet
        return None
