"""The hosts' rendering functions that ops replace, and what a subclass of a host's class defines so that it calls ours.

A function counts as known by its name and its parameters' names, and only if on a few small random calls it gives what
ours gives: same structure, values and random draws. So look-alikes of forks keep running as they are.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import _function_cases as cases
from . import eg3d, giraffe
from . import epigraf_rendering as epigraf
from . import pigan_rendering as pigan
from . import stylenerf_rendering as stylenerf
from . import stylesdf_rendering as stylesdf
from . import volumegan_rendering as volumegan
from ._averages import only_averages
from ._covers import enough_points
from ._rebinding import Rebinder, methods_of, reachable
from ._samples import NotCovered
from ._trial import neutral

# Two orders of float32 operations differ by far less, other formulas by far more.
_TOLERANCE = 1e-4
_SEED = 0


class Sampled(NamedTuple):
    """Which arguments are the grids that a function samples, and the points [*,3]."""

    grids: str
    points: str
    channels: int  # their axis in the grids
    planes: int = 1  # that lie side by side in this axis


@dataclass(frozen=True)
class Known:
    """One function, or method where `ours` takes self.

    cases(class or None): keyword arguments of the trial calls, "self" among them for a method; those that a host's
        function does not have are left out.
    beside: a further attribute that the class of a method must have.
    sampled: what it samples, which decides whether ours pays on a CPU.
    """

    name: str
    family: str
    ours: Callable[..., Any]
    cases: Callable[[type | None], Iterator[dict[str, Any]]]
    beside: str = ""
    sampled: Sampled | None = None

    def pays(self, given: Mapping[str, Any]) -> bool:
        """Whether ours is faster on a call with these arguments."""
        if self.sampled is None:
            return True
        grids, points = given[self.sampled.grids], given[self.sampled.points]
        if not all(isinstance(t, Tensor) and t.dim() > self.sampled.channels for t in (grids, points)):
            return True
        texels = grids.select(self.sampled.channels, 0).numel() * self.sampled.planes
        return enough_points(grids, texels, points)


_PLANES = Sampled("plane_features", "coordinates", channels=2)
FUNCTIONS = (
    Known("fancy_integration", "volume_render", pigan.fancy_integration, cases.rgb_sigma),
    Known("fancy_integration", "volume_render", epigraf.fancy_integration, cases.rgb_sigma),
    Known("renderer", "volume_render", volumegan.renderer, cases.renderer),
    Known("volume_integration", "volume_render", stylesdf.volume_integration_cips3dpp, cases.sdf_parts),
    Known("sample_pdf", "sample_pdf", pigan.sample_pdf, cases.pdf),
    Known("sample_from_planes", "sample_planes", eg3d.sample_from_planes, cases.planes, sampled=_PLANES),
    Known(
        "tri_plane_renderer", "sample_planes", epigraf.tri_plane_renderer, cases.tri_plane,
        sampled=Sampled("x", "coords", channels=1, planes=3),
    ),
    Known(
        "sample_from_3dgrid", "sample_volume", pigan.sample_from_3dgrid, cases.grid,
        sampled=Sampled("grid", "coordinates", channels=1),
    ),
    Known(
        "interpolate_feature", "sample_volume", volumegan.interpolate_feature, cases.volume,
        sampled=Sampled("volume", "points", channels=1),
    ),
    Known(
        "grid_sample_3d", "sample_volume", volumegan.grid_sample_3d, cases.volume_grid,
        sampled=Sampled("image", "optical", channels=1),
    ),
)  # fmt: skip
METHODS = (
    Known("run_forward", "volume_render", eg3d.march, cases.march),
    Known("calc_volume_weights", "volume_render", giraffe.calc_volume_weights, cases.weights),
    Known("calc_volume_weights", "volume_render", stylenerf.calc_volume_weights, cases.weights),
    Known("volume_integration", "volume_render", stylesdf.volume_integration, cases.sdf_method),
    Known("sample_pdf", "sample_pdf", eg3d.sample_pdf, cases.pdf, beside="sample_importance"),
    Known("sample_pdf", "sample_pdf", pigan.sample_pdf, cases.pdf),
    Known("unify_samples", "sample_pdf", eg3d.unify_samples, cases.two_sets),
    Known("query_input_features", "sample_planes", stylenerf.query_input_features, cases.query),
)


class Overrides(NamedTuple):
    """What a subclass of a host's class defines."""

    members: dict[str, Any]
    families: frozenset[str]  # that the members accelerate
    kept: list[str]  # known functions that stay the host's, each with its reason


class _Verdict(NamedTuple):
    known: Known | None
    reason: str  # why the function is none of ours, "" if it is one, or if no function of ours is called so


@functools.cache
def overrides(host: type, families: frozenset[str]) -> Overrides:
    """What a subclass of `host` defines so that its methods run our ops; empty members where none leads to an op."""
    found: set[str] = set()
    kept: list[str] = []

    def substitute(member: Any, verdict: _Verdict) -> Any:
        """What replaces a known function, None for one that stays."""
        if verdict.reason:
            kept.append(f"{_function_of(member).__name__}: {verdict.reason}")
        if verdict.known is None or verdict.known.family not in families:
            return None
        found.add(verdict.known.family)
        return _bound(verdict.known, member)

    methods = {name: member for name, member in methods_of(host) if not isinstance(member, classmethod)}
    members = {name: new for name, m in methods.items() if (new := substitute(m, _judge_member(m, host)))}
    rest = {name: member for name, member in methods.items() if name not in members}
    own = {_function_of(member) for member in rest.values()}

    def is_ours(function: types.FunctionType) -> bool:
        known = _judge(function, FUNCTIONS, None).known
        return function not in own and known is not None and known.family in families

    called = [f for f in reachable(own, is_ours) if f not in own]
    substitutes = {f: new for f in called if (new := substitute(f, _judge(f, FUNCTIONS, None)))}
    return Overrides(members | _rebound(rest, substitutes), frozenset(found), kept)


def _judge_member(member: Any, cls: type) -> _Verdict:
    static = isinstance(member, staticmethod)
    return _judge(_function_of(member), FUNCTIONS, None) if static else _judge(member, METHODS, cls)


def _rebound(methods: Mapping[str, Any], substitutes: Mapping[types.FunctionType, Any]) -> dict[str, Any]:
    """Copies of the methods that lead to a substitute."""
    functions = [_function_of(member) for member in methods.values()]
    rebinder = Rebinder(functions, substitutes)
    averaging = Rebinder(functions, {f: _averaging(f, s) for f, s in substitutes.items()})
    made = {}
    for name, member in methods.items():
        own = _function_of(member)
        copied: Any = rebinder.replace(own)
        if copied is own:
            continue
        reads_planes = any(f.__name__ == "sample_from_planes" for f in reachable([own]) if f in substitutes)
        if reads_planes and "decoder" in inspect.signature(own).parameters:
            copied = _by_decoder(copied, averaging.replace(own))
        called = _unless_compiling(own, copied)
        made[name] = staticmethod(called) if isinstance(member, staticmethod) else called
    return made


def _unless_compiling(own: Callable[..., Any], copied: Callable[..., Any]) -> Callable[..., Any]:
    """The copy; under torch.compile, whose guards do not know a view of globals, the host's own."""

    @functools.wraps(own)
    def call(*args: Any, **kwargs: Any) -> Any:
        # Frames that torch.compile gave up on run as they are; those that they call are compiled again.
        compiling = torch.compiler.is_compiling() or torch._C._dynamo.eval_frame.get_eval_frame_callback() is not None
        return (own if compiling else copied)(*args, **kwargs)

    return call


def _averaging(function: types.FunctionType, substitute: Any) -> Any:
    """What replaces a function where the decoder behind it takes the mean of the planes."""
    if function.__name__ != "sample_from_planes":
        return substitute
    means = functools.partial(eg3d.sample_from_planes, mean=True)
    return _bound(Known(function.__name__, "sample_planes", means, cases.planes, sampled=_PLANES), function)


def _by_decoder(all_planes: Callable[..., Any], mean: Callable[..., Any]) -> Callable[..., Any]:
    """EG3D's run_model: one copy for decoders that take the mean of the planes, one for all others."""
    own = inspect.signature(all_planes)

    @functools.wraps(all_planes)
    def run_model(*args: Any, **kwargs: Any) -> Any:
        arguments = own.bind(*args, **kwargs).arguments
        planes = arguments.get("planes")
        averages = isinstance(planes, Tensor) and planes.dim() == 5
        if averages and planes is not None:
            averages = only_averages(arguments["decoder"], planes.shape[1], planes.shape[2], _run_decoder)
        return (mean if averages else all_planes)(*args, **kwargs)

    return run_model


def _run_decoder(decoder: Any, features: Tensor, points: Tensor) -> Any:
    return decoder.forward(features, points)


def _function_of(member: Any) -> Any:
    return member.__func__ if isinstance(member, staticmethod) else member


def _bound(known: Known, member: Any) -> Any:
    """Our function with the signature and defaults of the host's, which runs where ours does not cover a call."""
    host = _function_of(member)
    own = inspect.signature(host)
    unused = {"self"} - set(inspect.signature(known.ours).parameters)

    @functools.wraps(host)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            arguments = own.bind(*args, **kwargs)
            arguments.apply_defaults()
            given = {name: value for name, value in arguments.arguments.items() if name not in unused}
            if known.pays(given):
                return known.ours(**given)
        except NotCovered:
            pass
        return host(*args, **kwargs)

    return staticmethod(call) if isinstance(member, staticmethod) else call


@functools.cache
def _judge(host: types.FunctionType, table: tuple[Known, ...], cls: type | None) -> _Verdict:
    """Which function of ours gives what the host's does."""
    named = [
        known for known in table if known.name == host.__name__ and (not known.beside or hasattr(cls, known.beside))
    ]
    parameters = inspect.signature(host).parameters
    if not named or all(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters.values()):
        return _Verdict(None, "")  # a decorator shows no parameters; what it closes over is looked at instead
    reasons = []
    for known in named:
        if _fits(parameters, known):
            reason = _difference(host, known, cls)
            if not reason:
                return _Verdict(known, "")
            reasons.append(reason)
    return _Verdict(None, "; ".join(reasons) or f"its parameters ({', '.join(parameters)}) are not the known ones")


def _fits(parameters: Mapping[str, inspect.Parameter], known: Known) -> bool:
    """Whether ours takes all that the host's takes, and the host's gives all that ours needs."""
    ours = inspect.signature(known.ours).parameters
    needed = {name for name, parameter in ours.items() if parameter.default is parameter.empty}
    plain = all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters.values())
    return plain and set(parameters) - {"self"} <= set(ours) - {"self"} and needed <= set(parameters)


def _difference(host: types.FunctionType, known: Known, cls: type | None) -> str:
    """How the host's function differs from ours on a few small calls, "" if it does not."""
    ours = _bound(known, host)
    names = inspect.signature(host).parameters
    try:
        with neutral():
            for case in known.cases(cls):
                given = {name: value for name, value in case.items() if name in names}
                own, own_state = _seeded(host, given)
                new, new_state = _seeded(ours, given)
                problem = _unequal(own, new) or ("" if torch.equal(own_state, new_state) else "it draws differently")
                if problem:
                    return problem
    except Exception as error:  # whatever a look-alike raises
        return f"a trial call fails: {type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    return ""


def _seeded(function: Callable[..., Any], given: dict[str, Any]) -> tuple[Any, Tensor]:
    torch.random.default_generator.manual_seed(_SEED)
    result = function(**given)
    return result, torch.random.default_generator.get_state()


def _unequal(own: Any, ours: Any) -> str:
    if isinstance(own, Tensor):
        if not isinstance(ours, Tensor) or own.shape != ours.shape or own.dtype != ours.dtype:
            return "it returns other shapes or dtypes"
        scale = own.abs().max() if own.numel() else own.new_zeros(())
        error = (own - ours).abs().max() if own.numel() else own.new_zeros(())
        return "" if error <= _TOLERANCE * scale else "it computes something else"
    if type(own) is not type(ours):
        return f"it returns {type(own).__name__}, not {type(ours).__name__}"
    if isinstance(own, dict):
        if own.keys() != ours.keys():
            return f"it returns {sorted(own)}, not {sorted(ours)}"
        own, ours = list(own.values()), [ours[key] for key in own]
    if isinstance(own, (tuple, list)):
        if len(own) != len(ours):
            return f"it returns {len(own)} values, not {len(ours)}"
        return next((text for a, b in zip(own, ours, strict=True) if (text := _unequal(a, b))), "")
    return "" if own is ours or own == ours else "it returns other values"
