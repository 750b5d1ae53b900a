"""The strict loader: what is accepted, and what each mistake is told."""

from dataclasses import dataclass
from typing import Literal

import pytest

from cips3d.config.loader import ConfigError, build, override, parse_yaml, read_yaml, to_mapping


@dataclass(frozen=True)
class Inner:
    widths: tuple[int, ...]
    mode: Literal["off", "bf16"] = "off"


@dataclass(frozen=True)
class Outer:
    rate: float
    steps: int
    inner: Inner
    limit: float | None = None
    flag: bool = False


GOOD = {"rate": 1, "steps": 3, "inner": {"widths": [4, 8]}}


def test_builds_nested_dataclasses():
    config = build(Outer, GOOD, "test")
    assert config == Outer(1.0, 3, Inner((4, 8)))
    assert isinstance(config.rate, float)
    assert build(Outer, to_mapping(config), "again") == config


@pytest.mark.parametrize(
    "change, message",
    [
        ({"stepz": 1}, r"unknown key 'stepz' \(did you mean 'steps'\?\)"),
        ({"steps": 1.5}, "steps must be a whole number, got 1.5"),
        ({"steps": True}, "steps must be a whole number, got True"),
        ({"flag": 1}, "flag must be true or false, got 1"),
        ({"rate": "fast"}, "rate must be a number, got 'fast'"),
        ({"limit": "x"}, "limit must be a number"),
        ({"inner": {"widths": [1, "a"]}}, r"inner.widths\[1\] must be a whole number"),
        ({"inner": {"widths": [1], "mode": "fp8"}}, "inner.mode must be one of off, bf16, got 'fp8'"),
        ({"inner": {"width": [1]}}, r"unknown key 'width' in inner \(did you mean 'widths'\?\)"),
        ({"inner": {}}, "key 'inner.widths' is missing"),
        ({"inner": 3}, "inner: wanted a mapping"),
    ],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(ConfigError, match=message):
        build(Outer, GOOD | change, "test")


def test_overrides():
    changed = override(GOOD, ["rate=1e-4", "inner.widths=[1, 2]"])
    assert changed["rate"] == 1e-4 and changed["inner"]["widths"] == [1, 2]
    assert GOOD["inner"]["widths"] == [4, 8]


@pytest.mark.parametrize(
    "assignment, message",
    [
        ("rate", "wanted key=value"),
        ("inner.wdths=[1]", r"unknown key 'wdths' in inner \(did you mean 'widths'\?\)"),
        ("steps.more=1", "unknown key 'more' in steps"),
        ("rate=[1", "not valid YAML"),
    ],
)
def test_override_mistakes(assignment, message):
    with pytest.raises(ConfigError, match=message):
        override(GOOD, [assignment])


def test_yaml_details(tmp_path):
    assert repr(parse_yaml("{a: 1e-3, b: 12, c: 1.5}", "t")) == "{'a': 0.001, 'b': 12, 'c': 1.5}"
    assert parse_yaml("[off, true, null]", "t") == ["off", True, None]
    with pytest.raises(ConfigError, match="t: line 1: key 'a' is given twice"):
        parse_yaml("a: 1\na: 2", "t")
    with pytest.raises(ConfigError, match="cannot read .*absent.yaml"):
        read_yaml(tmp_path / "absent.yaml")
