"""Generators of public state dicts, of whichever model the keys belong to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from cips3d.models import eg3d, pigan, volumegan
from cips3d.models.base import BaseGenerator
from cips3d.models.generator import Generator
from cips3d.models.official import load_official, read_state


class PublicModel(NamedTuple):
    """How a model's public generator is recognised and read, and what shows it: a training preset's poses and sampling,
    and a side in pixels. `pickled` are names in pickles of the public code, which are not read; `way_out` says so.
    """

    reads: Callable[[Mapping[str, Tensor]], bool]
    load: Callable[[Mapping[str, Tensor], str], BaseGenerator]
    preset: str
    resolution: int
    pickled: tuple[str, ...] = ()
    way_out: str = ""


def _cips3d(state: Mapping[str, Tensor], impl: str) -> BaseGenerator:
    model = load_official(state, impl=impl)
    if not isinstance(model, Generator):
        raise ValueError("holds a discriminator; wanted a generator (generator.pth or G_ema.pth)")
    return model


# The last one reads, or refuses, what no other one reads.
PUBLIC = (
    PublicModel(eg3d.public.reads, eg3d.public.load, "eg3d_ffhq512_128", 512, eg3d.public.PICKLED, eg3d.public.WAY_OUT),
    PublicModel(pigan.public.reads, pigan.public.load, "pigan_celeba", 128, pigan.public.PICKLED, pigan.public.WAY_OUT),
    PublicModel(
        volumegan.public.reads,
        volumegan.public.load,
        "volumegan_ffhq256",
        256,
        volumegan.public.PICKLED,
        volumegan.public.WAY_OUT,
    ),
    PublicModel(lambda state: True, _cips3d, "released_ffhq_32", 256),
)


def load_public(path: Path, impl: str = "auto") -> tuple[BaseGenerator, PublicModel]:
    """The generator in a state dict of public code, and which kind it is; no code in the file is run.

    Raises ValueError naming what does not fit.
    """
    try:
        state = read_state(path)
    except ValueError as error:
        reason = f"{error} {error.__cause__}"
        for model in PUBLIC:
            if any(name in reason for name in model.pickled):
                raise ValueError(f"load_public: {path} holds no state dict: {model.way_out}") from error
        raise
    model = next(model for model in PUBLIC if model.reads(state))
    return model.load(state, impl), model
