"""Names and layouts of the official generator's state dict (`GeneratorNerfINR`, released checkpoints)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from cips3d.models.generator import Generator
from cips3d.models.generator_config import GeneratorConfig
from cips3d.models.official_layout import Entry, Layout, count_blocks, shape_of

BLOCK_SIZES = tuple(str(4 * 2**k) for k in range(9))  # official names of the INR's blocks: "4" .. "1024"
FIRST_RGB_BLOCK, FIRST_SKIP_BLOCK = 3, 4  # earlier blocks have heads that are never used, and no skips


def read_generator(state: Mapping[str, Tensor]) -> GeneratorConfig:
    """The configuration that the tensors' shapes imply."""
    field_layers = count_blocks(state, "siren.network.{}.", map(str, range(len(state))))
    shape_layers = count_blocks(state, "mapping_network_nerf.base_net.{}.", map(str, range(0, len(state), 2)))
    appearance = map(str, range(0, len(state), 3))
    appearance_layers = count_blocks(state, "mapping_network_inr.base_net.{}.", appearance)
    blocks = count_blocks(state, "inr_net.network.{}.", BLOCK_SIZES)
    shape_style_dim, z_shape_dim = shape_of(state, "mapping_network_nerf.base_net.0.weight", 2)
    appearance_style_dim, z_appearance_dim = shape_of(state, "mapping_network_inr.base_net.0.weight", 2)
    colour_width, field_width = shape_of(state, "siren.color_layer_sine.linear.weight", 2)
    _, feature_dim, inr_width = shape_of(state, "inr_net.network.4.mod1.weight", 3)
    return GeneratorConfig(
        z_shape_dim=z_shape_dim,
        shape_style_dim=shape_style_dim,
        shape_mapping_layers=shape_layers,
        z_appearance_dim=z_appearance_dim,
        appearance_style_dim=appearance_style_dim,
        appearance_mapping_layers=appearance_layers,
        field_width=field_width,
        field_layers=field_layers,
        colour_width=colour_width,
        feature_dim=feature_dim,
        inr_width=inr_width,
        inr_blocks=blocks,
        rgb_blocks=tuple(range(FIRST_RGB_BLOCK, blocks)),
        skip_blocks=tuple(range(FIRST_SKIP_BLOCK, blocks)),
    )


def generator_layout(model: Generator) -> Layout:
    """Every official key, in the official order, with the tensor of `model` it belongs to.

    Raises ValueError if the official code has no such generator (heads or skips in other blocks than the released,
    a fixed positional encoding, view directions).
    """
    config = model.config
    if config.positional_encoding == "fixed" or config.view_directions:
        raise ValueError(
            "export_official: the official generator has a learnable positional encoding and no view directions, this "
            f"one has positional_encoding={config.positional_encoding} and view_directions={config.view_directions}"
        )
    released = tuple(range(FIRST_RGB_BLOCK, config.inr_blocks)), tuple(range(FIRST_SKIP_BLOCK, config.inr_blocks))
    if (tuple(sorted(config.rgb_blocks)), tuple(sorted(config.skip_blocks))) != released:
        raise ValueError(
            f"export_official: the official generator has rgb_blocks={released[0]} and skip_blocks={released[1]}, "
            f"this one has rgb_blocks={config.rgb_blocks} and skip_blocks={config.skip_blocks}"
        )
    return [
        *_field_entries(config),
        *_inr_entries(config),
        *_appearance_mapping_entries(config),
        *_linear_entries("aux_to_rbg.0", "aux_rgb"),
    ]


def _field_entries(config: GeneratorConfig) -> Layout:
    entries: Layout = []
    for k in range(config.field_layers):
        entries += _film_entries(f"siren.network.{k}", f"field.layers.{k}")
    entries += _linear_entries("siren.final_layer", "field.density")
    entries += _film_entries("siren.color_layer_sine", "field.colour")
    entries += _linear_entries("siren.color_layer_linear.0", "field.feature")
    for k in range(config.shape_mapping_layers):  # linear, activation, linear, ...
        entries += _linear_entries(f"mapping_network_nerf.base_net.{2 * k}", f"shape_mapping.linears.{k}")
    return entries


def _inr_entries(config: GeneratorConfig) -> Layout:
    entries: Layout = []
    for k, size in enumerate(BLOCK_SIZES[: config.inr_blocks]):
        widths = (config.feature_dim if k == 0 else config.inr_width, config.inr_width)
        for official, ours, width in zip(("mod1", "mod2"), ("first", "second"), widths, strict=True):
            source = f"inr_net.network.{size}.{official}"
            target = f"inr.blocks.{k}.{ours}"
            entries.append(Entry(f"{source}.weight", f"{target}.weight", transposed=True))
            entries += _linear_entries(f"{source}.modulation", f"{target}.modulation")
            entries.append(Entry(f"{source}.norm.weight", None, unused=torch.ones(width)))
            entries.append(Entry(f"{source}.norm.bias", None, unused=torch.zeros(width)))
    for k, size in enumerate(BLOCK_SIZES[: config.inr_blocks]):
        source = f"inr_net.to_rgbs.{size}.linear"
        if k in config.rgb_blocks:
            entries += _linear_entries(source, f"inr.to_rgb.{k}")
        else:
            entries.append(Entry(f"{source}.weight", None, unused=torch.zeros(3, config.inr_width)))
            entries.append(Entry(f"{source}.bias", None, unused=torch.zeros(3)))
    return entries


def _appearance_mapping_entries(config: GeneratorConfig) -> Layout:
    entries: Layout = []
    for k in range(config.appearance_mapping_layers):  # linear, norm, activation, linear, ...
        source = "mapping_network_inr.base_net"
        entries += _linear_entries(f"{source}.{3 * k}", f"appearance_mapping.linears.{k}")
        entries += _linear_entries(f"{source}.{3 * k + 1}", f"appearance_mapping.norms.{k}")
    return entries


def _film_entries(official: str, ours: str) -> Layout:
    affines = (("gain_fc", "gamma"), ("bias_fc", "beta"))
    entries = _linear_entries(f"{official}.linear", ours)
    for source, target in affines:
        entries += _linear_entries(f"{official}.{source}", f"{ours}.{target}")
    return entries


def _linear_entries(official: str, ours: str) -> Layout:
    return [Entry(f"{official}.{name}", f"{ours}.{name}") for name in ("weight", "bias")]
