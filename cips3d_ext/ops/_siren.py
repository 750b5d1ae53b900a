"""A FiLM-SIREN field as arguments of an op: its tensors named and checked, and packed into the flat ones of the op."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..reference import siren_field_shapes
from ._checks import check_shape

MOST_TRUNK_LAYERS = 8  # pi-GAN's
LinearMap = tuple[Tensor, Tensor]  # weight [O,I], bias [O]


class FieldSizes(NamedTuple):
    """The first options of the dispatcher ops; 0: no colour layer, no features."""

    widths: list[int]
    colour_width: int
    features: int


def named_tensors(
    layers: Sequence[LinearMap],
    density: LinearMap,
    colour: LinearMap | None,
    feature: LinearMap | None,
    gamma: Sequence[Tensor] | None,
    beta: Sequence[Tensor] | None,
) -> dict[str, Any]:
    """All tensors of a field by the names that errors give them: layers[0].weight, ..., feature.bias, gamma[0], ..."""
    maps: dict[str, LinearMap | None] = {f"layers[{k}]": layer for k, layer in enumerate(layers)}
    maps |= {"density": density, "colour": colour, "feature": feature}
    given = {name: layer for name, layer in maps.items() if layer is not None}
    named = {
        f"{name}.{part}": t for name, layer in given.items() for part, t in zip(("weight", "bias"), layer, strict=True)
    }
    return named | {
        f"{name}[{k}]": t for name, film in (("gamma", gamma), ("beta", beta)) for k, t in enumerate(film or ())
    }


def check_field(op: str, named: dict[str, Any], batch: int, view_directions: bool) -> FieldSizes:
    """Raises ValueError unless every tensor's shape fits the layer before it."""
    weights = {name.removesuffix(".weight"): t for name, t in named.items() if name.endswith(".weight")}
    outputs = {name: weight.shape[0] for name, weight in weights.items()}
    widths = [O for name, O in outputs.items() if name.startswith("layers")]
    sizes = FieldSizes(widths, outputs.get("colour", 0), outputs.get("feature", 0))
    check_structure(op, sizes, view_directions)
    if "colour" in weights and "feature" not in weights:
        raise ValueError(f"{op}: colour is the layer before the features; give feature= as well")
    for (name, weight), (O, I) in zip(weights.items(), _shapes(sizes, view_directions), strict=False):
        check_shape(op, f"{name}.weight", weight, "[O,I]", O, I)
        check_shape(op, f"{name}.bias", named[f"{name}.bias"], "[O]", O)
    sines = [*sizes.widths, sizes.colour_width] if sizes.colour_width else sizes.widths
    for film in ("gamma", "beta"):
        given = [name for name in named if name.startswith(film)]
        if given and len(given) != len(sines):
            raise ValueError(
                f"{op}: {film} must hold one tensor [B,O] a sine layer, colour last: {len(sines)}, got {len(given)}"
            )
        for name, O in zip(given, sines, strict=False):
            check_shape(op, name, named[name], "[B,O]", batch, O)
    return sizes


def check_structure(op: str, sizes: FieldSizes, view_directions: bool) -> None:
    """Raises ValueError for a number of layers or a combination of heads that the ops do not have."""
    count = len(sizes.widths)
    if not 1 <= count <= MOST_TRUNK_LAYERS:
        raise ValueError(f"{op}: layers must be 1 to {MOST_TRUNK_LAYERS} trunk layers, got {count}")
    if view_directions and sizes.colour_width == 0:
        raise ValueError(f"{op}: directions enter the colour layer; give colour=, or leave directions out")


def pack_field(named: dict[str, Any]) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """parameters [P], gamma and beta [B,F] of the dispatcher ops; differentiable."""
    films = [[t for name, t in named.items() if name.startswith(film)] for film in ("gamma", "beta")]
    gamma, beta = (torch.cat(film, -1) if film else None for film in films)
    maps = [t.reshape(-1) for name, t in named.items() if name.endswith((".weight", ".bias"))]
    return torch.cat(maps), gamma, beta


def check_packed(
    op: str,
    parameters: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    batch: int,
    sizes: FieldSizes,
    view_directions: bool,
) -> None:
    """The same for the packed tensors, whose sizes alone can be checked."""
    check_structure(op, sizes, view_directions)
    check_shape(op, "parameters", parameters, "[P]", sum(O * I + O for O, I in _shapes(sizes, view_directions)))
    for name, film in (("gamma", gamma), ("beta", beta)):
        if film is not None:
            check_shape(op, name, film, "[B,F]", batch, sum(sizes.widths) + sizes.colour_width)


def _shapes(sizes: FieldSizes, view_directions: bool) -> list[tuple[int, int]]:
    return siren_field_shapes(list(sizes.widths), sizes.colour_width, sizes.features, view_directions)
