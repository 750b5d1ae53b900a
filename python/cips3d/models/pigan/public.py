"""Reads the generator of the public pi-GAN code (github.com/marcoamonteiro/pi-GAN) from its state dict.

That code saves whole modules and moving averages as pickles, which hold code and are not read here. `WAY_OUT` turns
them into a state dict: the averaged weights (`ema.pth`: the first of its two averages, with decay 0.999) in the order
of the generator's parameters. Mean styles are in neither; they are computed anew, as the public renderers do.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from cips3d.models.pigan.config import PiganGeneratorConfig
from cips3d.models.pigan.generator import PiganGenerator

PREFIX = "siren."  # of the keys where the state dict is the whole generator's
LAST_MAP = "mapping_network.network."
WAY_OUT = (
    "it is a pickle of pi-GAN's code; in the folder of that code write its averaged weights as a state dict: "
    "g = torch.load('generator.pth', weights_only=False); e = torch.load('ema.pth', weights_only=False); "
    "e.copy_to(g.parameters()); torch.save(g.state_dict(), 'pigan.pth')"
)
PICKLED = ("ImplicitGenerator3d", "torch_ema")  # names in such pickles


def reads(state: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of a pi-GAN generator."""
    return any(key.removeprefix(PREFIX).startswith("color_layer_linear.0.") for key in state) and any(
        LAST_MAP in key for key in state
    )


def load(
    state: Mapping[str, Tensor], impl: str = "auto", *, box_side: float = 0.24, near: float = 0.88, far: float = 1.12
) -> PiganGenerator:
    """The generator of a public state dict, in eval mode; widths and depths are read from the shapes.

    The box and the ray interval are in no state dict: the defaults are CelebA's, `SPATIALSIRENBASELINE`. Cats have
    near=0.8, far=1.2; CARLA's `TALLSIREN` has the same keys and no box: box_side=2, near=0.7, far=1.3. Raises
    ValueError naming what does not fit.
    """
    theirs = {key.removeprefix(PREFIX): value for key, value in state.items()}
    network = {key for key in theirs if key.startswith("network.") and key.endswith(".layer.weight")}
    maps = sorted(int(key.split(".")[2]) for key in theirs if key.startswith(LAST_MAP) and key.endswith(".weight"))
    try:
        width, last = theirs["final_layer.weight"].shape[1], maps[-1]
        first = theirs[f"{LAST_MAP}0.weight"]
    except (KeyError, IndexError) as error:
        raise ValueError(f"pi-GAN's state dict lacks {error}; wanted that of its whole generator") from error
    config = PiganGeneratorConfig(
        z_shape_dim=first.shape[1],
        shape_style_dim=first.shape[0],
        mapping_layers=len(maps) - 1,
        field_width=width,
        field_layers=len(network),
        box_side=box_side,
        near=near,
        far=far,
    )
    with torch.device("meta"):
        generator = PiganGenerator(config, impl)
    ours = _renamed(theirs, config, last)
    try:
        generator.load_state_dict(ours, assign=True)
    except RuntimeError as error:
        raise ValueError(f"not the state dict of a pi-GAN generator: {' '.join(str(error).split())}") from error
    return generator.eval()


def _renamed(theirs: Mapping[str, Tensor], config: PiganGeneratorConfig, last: int) -> dict[str, Tensor]:
    """Our names; the last layer of the mapping cut into frequencies and, behind all of them, phases of each layer."""
    result, sines = {}, [*(f"layers.{k}" for k in range(config.field_layers)), "colour"]
    for key, value in theirs.items():
        stem, _, kind = key.rpartition(".")
        if stem == f"{LAST_MAP}{last}":
            wanted = 2 * len(sines) * config.field_width
            if len(value) != wanted:
                raise ValueError(f"pi-GAN's {key} must have {wanted} rows, got {list(value.shape)}")
            halves = value.chunk(2)
            for name, half in zip(("gamma", "beta"), halves, strict=True):
                for sine, rows in zip(sines, half.split(config.field_width), strict=True):
                    result[f"field.{sine}.{name}.{kind}"] = rows.clone()
            continue
        stem = stem.removesuffix(".layer")
        for there, here in (
            (LAST_MAP, "mapping."),
            ("network.", "field.layers."),
            ("final_layer", "field.density"),
            ("color_layer_sine", "field.colour"),
            ("color_layer_linear.0", "field.feature"),
        ):
            if stem.startswith(there):
                stem = here + stem.removeprefix(there)
                break
        result[f"{stem}.{kind}"] = value.clone()
    return result
