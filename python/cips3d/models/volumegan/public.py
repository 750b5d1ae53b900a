"""Reads the generator of the public VolumeGAN code (github.com/genforce/volumegan) from its state dict.

The ray interval, the volume's corners and the cameras are in no state dict: the defaults are the authors' for FFHQ. Its
running mean of w becomes the mean styles for truncation. Of the tensors that are kept as constants there, `lod` must
be 0, the end of the progressive training, and the low-passes must be the binomial one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from cips3d.models.discriminator import BLUR_TAPS
from cips3d.models.volumegan.config import SMALLEST_VOLUME, VolumeganGeneratorConfig
from cips3d.models.volumegan.generator import VolumeganGenerator

WAY_OUT = (
    "VolumeGAN's checkpoints hold networks, optimisers and settings of its code; in that code write the averaged "
    "generator alone: c = torch.load('volumegan_ffhq256.pth', weights_only=False); "
    "torch.save(c['models']['generator_smooth'], 'volumegan.pth')"
)
PICKLED = ("EasyDict", "model_kwargs_init")  # names in such checkpoints
MEAN, LEVEL = "w_avg", "synthesis.lod"
FILTERS = re.compile(r"synthesis\.(layer\d+\.)?filter")
OCTAVE = 6  # numbers of the positional encoding: sine and cosine of three coordinates


def reads(state: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of a VolumeGAN generator."""
    return any(key.startswith("nerfmlp.fg_mlps.") for key in state)


def load(state: Mapping[str, Tensor], impl: str = "auto", *, near: float = 0.8, far: float = 1.2) -> VolumeganGenerator:
    """The generator of a public state dict, in eval mode; widths, depths and sides are read from the shapes.

    Raises ValueError naming what does not fit.
    """
    try:
        config = _config(state, near, far)
        _check_constants(state)
        ours = _renamed(state, config)
    except KeyError as error:
        raise ValueError(f"VolumeGAN's state dict lacks {error}; wanted that of its whole generator") from error
    with torch.device("meta"):
        generator = VolumeganGenerator(config, impl)
    try:
        generator.load_state_dict(ours, assign=True)
    except RuntimeError as error:
        raise ValueError(f"not the state dict of a VolumeGAN generator: {' '.join(str(error).split())}") from error
    generator.mean_w_shape = generator.mean_w_appearance = state[MEAN].clone()[None]
    return generator.eval()


def _count(state: Mapping[str, Tensor], name: str) -> int:
    """How many layers `name` + number there are."""
    pattern = re.compile(re.escape(name) + r"(\d+)\.")
    return len({match[1] for key in state if (match := pattern.match(key))})


def _config(state: Mapping[str, Tensor], near: float, far: float) -> VolumeganGeneratorConfig:
    layers, stages = _count(state, "mapping.dense"), _count(state, "nerfmlp.fv.layer")
    sides = _count(state, "synthesis.output")
    descriptor = state[f"nerfmlp.fv.layer{stages - 1}.weight"].shape[0]
    first = state["nerfmlp.fg_mlps.0.weight"]
    renderer = [state[f"synthesis.output{side}.weight"].shape[1] for side in range(1, sides + 1)]
    return VolumeganGeneratorConfig(
        z_shape_dim=state["mapping.dense0.weight"].shape[1],
        shape_style_dim=state[f"mapping.dense{layers - 1}.weight"].shape[0],
        mapping_layers=layers,
        volume_side=SMALLEST_VOLUME << (stages - 1),
        volume_channels=descriptor,
        volume_base_channels=state["nerfmlp.fv.const"].shape[1],
        octaves=(first.shape[1] - descriptor) // OCTAVE,
        field_width=first.shape[0],
        field_layers=_count(state, "nerfmlp.fg_mlps."),
        feature_dim=state["nerfmlp.fg_color.weight"].shape[0],
        nerf_side=state["synthesis.layer1.noise"].shape[-1] // 2,
        rgb_head="synthesis.rgb_init_res.weight" in state,
        renderer_channels=tuple(renderer),
        near=near,
        far=far,
    )


def _check_constants(state: Mapping[str, Tensor]) -> None:
    if state[LEVEL].item() != 0:
        raise ValueError(
            f"VolumeGAN's {LEVEL} is {state[LEVEL].item():g}: its training had not yet come to the largest pictures; "
            "wanted 0"
        )
    taps = torch.tensor(BLUR_TAPS)
    wanted = torch.outer(taps, taps) / taps.sum() ** 2
    for key, value in state.items():
        if FILTERS.fullmatch(key) and not (
            value.shape == wanted.shape and torch.allclose(value.float(), wanted.to(value.device))
        ):
            raise ValueError(f"VolumeGAN's {key} must be the low-pass {BLUR_TAPS} / {taps.sum():g} in both directions")


def _renamed(state: Mapping[str, Tensor], config: VolumeganGeneratorConfig) -> dict[str, Tensor]:
    """Our names; 1x1 kernels as matrices, and a block's noise and strengths together."""
    n, result = config.renderer_layers, {}
    for key, value in state.items():
        if key in (MEAN, LEVEL) or FILTERS.fullmatch(key) or key.endswith((".noise", ".noise_strength")):
            continue
        kernel = key.endswith(".weight") and value.ndim == 4
        result[_name(key, n)] = value.flatten(1).clone() if kernel else value.clone()
    for block in range(len(config.renderer_channels)):
        layers = [f"synthesis.layer{n * block + k + 1}" for k in range(n)]
        result[f"renderer.blocks.{block}.constant"] = torch.cat([state[f"{name}.noise"][0] for name in layers])
        strengths = [state[f"{name}.noise_strength"] for name in layers]
        result[f"renderer.blocks.{block}.strength"] = torch.stack(strengths)
    return result


def _name(key: str, n: int) -> str:
    """Our name of a public key, with n layers a side in the renderer."""
    if match := re.fullmatch(r"synthesis\.layer(\d+)\.(.*)", key):
        block, place = divmod(int(match[1]) - 1, n)
        part = f"layers.{place - 1}" if place else "upsampling"
        return f"renderer.blocks.{block}.{part}.{match[2]}"
    if match := re.fullmatch(r"synthesis\.output(\d+)\.(.*)", key):
        return f"renderer.blocks.{int(match[1]) - 1}.colours.{match[2]}"
    for there, here in (
        (r"mapping\.dense", "mapping.fc"),
        (r"nerfmlp\.fv\.layer", "field.volume.convs."),
        (r"nerfmlp\.fv\.mapping_network", "field.volume.affine"),
        (r"nerfmlp\.fv\.", "field.volume."),
        (r"nerfmlp\.fg_mlps", "field.layers"),
        (r"nerfmlp\.fg_density", "field.density"),
        (r"nerfmlp\.fg_color", "field.feature"),
        (r"synthesis\.rgb_init_res", "rgb_head"),
    ):
        if re.match(there, key):
            return re.sub(f"^{there}", here, key)
    return key
