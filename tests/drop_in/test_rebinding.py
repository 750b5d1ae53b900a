"""Copies of functions that see other globals: what Python can put between a method and the function it calls."""

import functools
import sys
import types

import pytest
import torch

from cips3d_ext.drop_in._rebinding import Rebinder, reachable


def known(x):
    return x + 1


def replacement(x):
    return -x


def helper(x, *, factor=2):
    return factor * known(x)


def decorated_by(function):
    def decorator(*args):
        return function(*args)

    return decorator


hidden = decorated_by(known)
counter = 0


class Static:
    @staticmethod
    def through(x):
        return Static.last(x)

    @staticmethod
    def last(x):
        return known(x)


class Base:
    def who(self):
        return "base"


class Host(Base):
    def nested(self, x):
        def inner(y):
            return known(y)

        return [known(i) for i in (x,)] + [inner(x), (lambda: known(x))()], {i: known(i) for i in (x,)}

    def super_and_class_cell(self, x):
        return super().who(), __class__.__name__, known(x)

    def indirect(self, x):
        return helper(x, factor=3), hidden(x), Static.through(x), sys.modules[__name__].known(x)

    @functools.wraps(known)
    def wrapped(self, x):
        return known(x)

    @torch.no_grad()
    def without_gradient(self, x):
        return torch.is_grad_enabled(), known(x)

    def defaults(self, x, *, scale=5):
        return scale * known(x), len([x])

    def bound_as_defaults(self, x, first=known, *, second=helper):
        return first(x), second(x)

    def assigns(self, x):
        global counter
        counter = known(x)
        return counter

    def asks(self, value):
        return isinstance(value, Static), known(1)

    def unbound_name(self):
        return known(1) + not_there  # noqa: F821

    def unrelated(self, x):
        return x


@pytest.fixture
def rebound():
    methods = {name: f for name, f in vars(Host).items() if isinstance(f, types.FunctionType)}
    rebinder = Rebinder(methods.values(), {known: replacement})
    members = {name: rebinder.replace(function) for name, function in methods.items()}
    return type("Rebound", (Host,), members)()


def test_everything_inside_a_method_sees_the_replacement(rebound):
    assert rebound.nested(4) == ([-4, -4, -4], {4: -4})
    assert Host().nested(4) == ([5, 5, 5], {4: 5})


def test_super_and_the_class_cell_stay_the_hosts(rebound):
    assert rebound.super_and_class_cell(4) == ("base", "Host", -4)


def test_functions_between_are_followed_and_stay_as_they_are_for_others(rebound):
    assert rebound.indirect(4) == (-12, -4, -4, 5)  # a module from sys.modules is no global that can be seen
    assert Host().indirect(4) == (15, 5, 5, 5) and helper(4) == 10 and Static.through(4) == 5


def test_decorators_defaults_and_metadata(rebound):
    assert rebound.without_gradient(4) == (False, -4)
    assert rebound.defaults(4) == (-20, 1) and rebound.defaults(4, scale=2) == (-8, 1)
    method = type(rebound).defaults
    assert (method.__name__, method.__module__, method.__kwdefaults__) == ("defaults", __name__, {"scale": 5})
    assert rebound.bound_as_defaults(4) == (-4, -8) and Host().bound_as_defaults(4) == (5, 10)
    assert rebound.wrapped(4) == -4 and type(rebound).wrapped.__wrapped__ is replacement


def test_a_method_that_assigns_globals_stays(rebound):
    assert type(rebound).assigns is Host.assigns and type(rebound).unrelated is Host.unrelated
    rebound.assigns(4)
    assert counter == 5


def test_globals_are_read_at_the_call(rebound, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "helper", lambda x, factor: 100)
    assert rebound.indirect(4)[0] == 100
    with pytest.raises(NameError, match="not_there"):
        rebound.unbound_name()


def test_a_class_with_static_methods_is_still_asked_for_its_instances(rebound):
    assert rebound.asks(Static()) == (True, -1) and rebound.asks(3) == (False, -1)


def test_modules_are_seen_through_a_view(monkeypatch):
    inner, outer = types.ModuleType("inner"), types.ModuleType("outer")
    inner.known, inner.value, outer.inner = known, 7, inner
    space = {"outer": outer, "__name__": "space"}
    exec("def use(x):\n    outer.inner.value = x\n    return outer.inner.known(x), outer.inner.value", space)
    assert known in set(reachable([space["use"]]))
    copied = Rebinder([space["use"]], {known: replacement}).replace(space["use"])
    assert copied(4) == (-4, 4) and inner.value == 4 and inner.known is known


def test_installed_packages_are_not_searched(tmp_path, monkeypatch):
    """A library of site-packages, of which a host's function calls one that calls a known one."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "some_library.py").write_text("known = None\ndef through(x):\n    return known(x)\n")
    monkeypatch.syspath_prepend(folder)
    import some_library

    some_library.known = known
    space = {"some_library": some_library, "__name__": "a_host"}
    exec("def use(x):\n    return some_library.through(x)", space)
    assert known not in set(reachable([space["use"]])) and known in set(reachable([some_library.through]))
    assert Rebinder([space["use"]], {known: replacement}).replace(space["use"]) is space["use"]
