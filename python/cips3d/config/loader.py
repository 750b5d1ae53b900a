"""YAML -> nested mapping -> frozen dataclass, with every key and type checked.

Unknown keys, missing keys, duplicate keys and wrong types are errors that name the key, what was wanted and what was
seen; for a misspelt key also the nearest valid one.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, overload

import yaml

T = TypeVar("T")
PRESETS = resources.files("cips3d.config") / "presets"
# YAML 1.1 reads 1e-3 as a string because it wants a dot; people who write learning rates do not.
FLOAT_PATTERN = re.compile(r"^[-+]?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d+)?$")


class ConfigError(ValueError):
    """A preset, a configuration file or an override is wrong; the message says where and what would be right."""


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that reads 1e-3 as a number and `off` as a word, and refuses a key given twice."""

    # Without YAML 1.1's booleans yes, no, on and off: `precision: off` is a word here. true and false come back below.
    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise ConfigError(f"line {node.start_mark.line + 1}: key {key!r} is given twice")
        return super().construct_mapping(node, deep)


_StrictLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), list("tf"))
_StrictLoader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT_PATTERN, list("-+.0123456789"))


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML text; `source` names it in errors."""
    try:
        return yaml.load(text, _StrictLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from error
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return _as_mapping(parse_yaml(text, str(path)), str(path))


def preset_names(kind: str) -> list[str]:
    """Names of the presets of a kind (`generator` or `training`), sorted."""
    names = (Path(entry.name) for entry in (PRESETS / kind).iterdir())
    return sorted(name.stem for name in names if name.suffix == ".yaml")


def load_preset(kind: str, name: str) -> dict[str, Any]:
    """The mapping of the preset `presets/<kind>/<name>.yaml`."""
    names = preset_names(kind)
    if name not in names:
        raise ConfigError(f"no {kind} preset {name!r}{_nearest(name, names)}; there are: {', '.join(names)}")
    text = (PRESETS / kind / f"{name}.yaml").read_text(encoding="utf-8")
    return _as_mapping(parse_yaml(text, f"{kind} preset {name}"), f"{kind} preset {name}")


def override(mapping: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """A copy of `mapping` with each `a.b=value` applied; values are YAML. Only keys already present can be set."""
    result = _copy(mapping)
    for assignment in assignments:
        dotted, equals, text = assignment.partition("=")
        if not equals or not dotted:
            raise ConfigError(f"--set {assignment}: wanted key=value, for example --set batch_size=4")
        *parents, last = dotted.split(".")
        node = result
        for depth, part in enumerate([*parents, last]):
            where = ".".join([*parents, last][:depth])
            if not isinstance(node, dict) or part not in node:
                valid = sorted(node) if isinstance(node, dict) else []
                raise ConfigError(f"--set {assignment}: unknown key {part!r}{_inside(where)}{_nearest(part, valid)}")
            if depth == len(parents):
                node[part] = parse_yaml(text, f"--set {assignment}")
            else:
                node = node[part]
    return result


@overload
def build(cls: type[T], mapping: Mapping[str, Any], source: str) -> T: ...
@overload
def build(cls: types.UnionType, mapping: Mapping[str, Any], source: str) -> Any: ...
def build(cls: Any, mapping: Mapping[str, Any], source: str) -> Any:
    """Make the dataclass `cls` from a mapping, checking every key and type; `source` names it in errors.

    A union of dataclasses, here and in fields, is told apart by the key `model`, a Literal in each of them; without the
    key it is the first one.
    """
    return _convert(cls, mapping, source, "")


def to_mapping(config: Any) -> dict[str, Any]:
    """The inverse of `build`: nested plain dicts and lists, ready for YAML."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_mapping(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _build(cls: Any, mapping: Any, source: str, where: str) -> Any:
    mapping = _as_mapping(mapping, f"{source}{_inside(where)}")
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for key in mapping:
        if key not in fields:
            raise ConfigError(f"{source}: unknown key {key!r}{_inside(where)}{_nearest(str(key), list(fields))}")
    hints = typing.get_type_hints(cls)
    values = {}
    for name, field in fields.items():
        path = f"{where}.{name}" if where else name
        if name in mapping:
            values[name] = _convert(hints[name], mapping[name], source, path)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{source}: key {path!r} is missing")
    try:
        return cls(**values)
    except ConfigError:
        raise
    except ValueError as error:  # a rule of the dataclass itself, in its __post_init__
        raise ConfigError(f"{source}: {error}") from error


def _convert(hint: Any, value: Any, source: str, path: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    wrong = ConfigError(f"{source}: {path} must be {_describe(hint)}, got {value!r}")
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, source, path)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        rest = [argument for argument in arguments if argument is not type(None)]
        if all(dataclasses.is_dataclass(argument) for argument in rest):
            return _build(_chosen(rest, value, source, path), value, source, path)
        if len(rest) != 1:
            raise TypeError(f"{path}: the loader knows X | None but no other union")
        return _convert(rest[0], value, source, path)
    if origin is typing.Literal:
        if value in arguments and type(value) in {type(argument) for argument in arguments}:
            return value
        raise wrong
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise wrong
        if arguments[-1] is Ellipsis:
            arguments = (arguments[0],) * len(value)
        if len(arguments) != len(value):
            raise wrong
        return tuple(
            _convert(a, v, source, f"{path}[{i}]") for i, (a, v) in enumerate(zip(arguments, value, strict=True))
        )
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:  # exact, so that true is no number
        raise wrong
    return value


def _chosen(classes: list[Any], mapping: Any, source: str, where: str) -> Any:
    """The dataclass whose `model` the mapping names."""
    mapping = _as_mapping(mapping, f"{source}{_inside(where)}")
    names = {typing.get_args(typing.get_type_hints(cls)["model"])[0]: cls for cls in classes}
    name = mapping.get("model", next(iter(names)))
    if name not in names:
        raise ConfigError(f"{source}: there is no model {name!r}{_inside(where)}{_nearest(str(name), list(names))}")
    return names[name]


def _describe(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_describe(argument) for argument in arguments)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"a list, each entry {_describe(arguments[0])}"
        return f"a list of {len(arguments)}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return names.get(hint, "a mapping")


def _as_mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: wanted a mapping of keys to values, got {value!r}")
    return value


def _copy(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in mapping.items()}


def _inside(where: str) -> str:
    return f" in {where}" if where else ""


def _nearest(name: str, valid: list[str]) -> str:
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    if near:
        return f" (did you mean {near[0]!r}?)"
    return f" (valid: {', '.join(valid)})" if valid else ""
