"""Reads the generator of the public EG3D code (github.com/NVlabs/eg3d) from its state dict.

That code publishes pickles, which hold code and are not read here. `WAY_OUT` turns them into a state dict.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from cips3d.models.discriminator import Blur
from cips3d.models.eg3d.config import Eg3dGeneratorConfig
from cips3d.models.eg3d.generator import Eg3dGenerator

WAY_OUT = (
    "it is a pickle of EG3D's code; in its folder eg3d/eg3d write the averaged weights as a state dict: "
    "import torch, dnnlib, legacy; f = dnnlib.util.open_url('ffhq512-128.pkl'); "
    "torch.save(legacy.load_network_pkl(f)['G_ema'].state_dict(), 'eg3d.pth')"
)
# In torch's refusal: what a plain pickle is called (pickle.dump, not torch.save), as this code family publishes them.
PICKLED = ("pickle protocol", "torch_utils.persistence")
MEAN_STYLE = "backbone.mapping.w_avg"
# Buffers without a use here: the spread of the training labels, and the one low-pass, which is no choice.
DATASET_LABELS, LOW_PASS = "dataset_label_std", "resample_filter"
FACES = Eg3dGeneratorConfig(raw_side=128, raw_side_images=0)  # and cats: ffhq512-128, afhqcats512-128
CARS = Eg3dGeneratorConfig(  # shapenetcars128-64, the only one of 128 pixels
    pose_conditioned=False, camera_radius=1.3, ray_start=0.1, ray_end=2.6, box_warp=1.6, raw_side_images=0
)
CAR_RESOLUTION = 128
TWICE = (128, 256)  # published sides that the super-resolution doubles; it makes 512 of 128


def reads(state: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of an EG3D generator."""
    return "backbone.synthesis.b4.const" in state and "decoder.net.0.weight" in state


def load(
    state: Mapping[str, Tensor], impl: str = "auto", rendering: Eg3dGeneratorConfig | None = None
) -> Eg3dGenerator:
    """The generator of a public state dict, in eval mode; widths and sides are read from the shapes.

    Rays, box, the raw image's side, the super-resolution's start and whether the generator was conditioned on poses are
    in no state dict: they are `rendering`'s, or else those of the published models of that resolution. The mean style
    of truncation is the stored one. Raises ValueError naming what does not fit.
    """
    config = _config(state, rendering)
    with torch.device("meta"):
        generator = Eg3dGenerator(config, impl)
    ours = {}
    for key, value in state.items():
        if key.endswith(LOW_PASS):
            kernel = Blur(padding=0).kernel
            if value.shape != kernel.shape or not torch.allclose(value.to(kernel), kernel):
                raise ValueError(f"{key}: wanted the low-pass 1 3 3 1, the one of all published models, got another")
        elif key not in (DATASET_LABELS, MEAN_STYLE):
            ours[key] = value.detach().clone()
    try:
        generator.load_state_dict(ours, assign=True)
    except RuntimeError as error:
        raise ValueError(f"not the state dict of an EG3D generator: {' '.join(str(error).split())}") from error
    if MEAN_STYLE in state:
        generator.mean_w_shape = state[MEAN_STYLE].detach().clone()[None]
    return generator.eval()


def _config(state: Mapping[str, Tensor], rendering: Eg3dGeneratorConfig | None) -> Eg3dGeneratorConfig:
    """The configuration with everything that shapes tell."""
    try:
        sides = _numbers(r"backbone\.synthesis\.b(\d+)\.torgb\.bias", state)
        layers = len(_numbers(r"backbone\.mapping\.fc(\d+)\.weight", state))
        width, wide = state["backbone.mapping.embed.weight"].shape[0], state["backbone.mapping.fc0.weight"].shape[1]
        first, last = (state[f"superresolution.block{k}.conv1.weight"].shape[0] for k in (0, 1))
        resolution = state["superresolution.block1.conv1.noise_const"].shape[0]
        channels = {side: state[f"backbone.synthesis.b{side}.conv1.weight"].shape[0] for side in sides}
        plane_channels = state["decoder.net.0.weight"].shape[1]
        features = state["decoder.net.2.weight"].shape[0] - 1
    except KeyError as error:
        raise ValueError(f"EG3D's state dict lacks {error}; wanted that of its whole generator") from error
    if rendering is None:
        rendering = CARS if resolution == CAR_RESOLUTION else FACES
        rendering = dataclasses.replace(rendering, sr_start=resolution // (2 if resolution in TWICE else 4))
    return dataclasses.replace(
        rendering,
        z_shape_dim=wide - width,
        shape_style_dim=width,
        mapping_layers=layers,
        plane_side=max(sides),
        plane_channels=plane_channels,
        channel_base=max(side * count for side, count in channels.items()),
        channel_max=max(channels.values()),
        features=features,
        resolution=resolution,
        sr_channels=(first, last),
    )


def _numbers(pattern: str, state: Mapping[str, Tensor]) -> list[int]:
    """What the pattern's group is in the keys that it matches."""
    return [int(found[1]) for key in state if (found := re.fullmatch(pattern, key))]
