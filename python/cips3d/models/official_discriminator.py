"""Names of the official discriminators' state dicts: main alone (`Discriminator_MultiScale`) or joint (`..._Aux`)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cips3d.models.discriminator import SMALLEST_SIZE, Discriminator, DiscriminatorConfig
from cips3d.models.official_layout import Entry, Layout, count_blocks, shape_of

MAIN_PREFIX, AUX_PREFIX = "main_disc.", "aux_disc."  # of the joint state dict; the main one alone has none


def read_discriminator(state: Mapping[str, Tensor]) -> DiscriminatorConfig:
    """The configuration that the tensors' shapes imply; joint state dicts have both prefixes."""
    joint = any(key.startswith((MAIN_PREFIX, AUX_PREFIX)) for key in state)
    main = _channels(state, MAIN_PREFIX if joint else "")
    if not joint and "convs.8.conv1.down_blur.kernel" in state:
        raise ValueError(
            "load_official: this is an auxiliary discriminator alone (its first convolutions downsample); "
            "load the joint state dict that contains it"
        )
    aux = _channels(state, AUX_PREFIX) if joint else ()
    return DiscriminatorConfig(main_channels=main, aux_channels=aux)


def discriminator_layout(model: Discriminator) -> Layout:
    """Every official key, in the official order, with the tensor of `model` it belongs to."""
    if model.aux is None:
        return _part_entries("", "main", model.config.main_channels, downsample_first=False)
    return [
        *_part_entries(MAIN_PREFIX, "main", model.config.main_channels, downsample_first=False),
        *_part_entries(AUX_PREFIX, "aux", model.config.aux_channels, downsample_first=True),
    ]


def _channels(state: Mapping[str, Tensor], prefix: str) -> tuple[int, ...]:
    sizes = [str(SMALLEST_SIZE * 2**k) for k in range(len(state))]
    count = max(1, count_blocks(state, prefix + "conv_in.{}.", sizes))
    channels = tuple(shape_of(state, f"{prefix}conv_in.{size}.equal_conv.weight", 4)[0] for size in sizes[:count])
    final_in = shape_of(state, f"{prefix}final_conv.equal_conv.weight", 4)[1]
    if final_in != channels[0]:
        raise ValueError(
            f"load_official: {prefix}final_conv has {final_in} input channels instead of {channels[0]}: "
            "minibatch statistics, which the released configuration does not use and whose group is in no state dict"
        )
    return channels


def _part_entries(prefix: str, ours: str, channels: tuple[int, ...], downsample_first: bool) -> Layout:
    sizes = [SMALLEST_SIZE * 2**k for k in range(len(channels))]
    entries: Layout = []
    for size in sizes:
        entries += _conv_entries(f"{prefix}conv_in.{size}", f"{ours}.from_rgb.{size}")
    for size in reversed(sizes[1:]):
        source, target = f"{prefix}convs.{size}", f"{ours}.blocks.{size}"
        entries += _conv_entries(f"{source}.conv1", f"{target}.conv1", blurred=downsample_first)
        entries += _conv_entries(f"{source}.conv2", f"{target}.conv2", blurred=not downsample_first)
        entries.append(Entry(f"{source}.skip.down_blur.kernel", f"{target}.skip_blur.kernel"))
        entries.append(Entry(f"{source}.skip.equal_conv.weight", f"{target}.skip.weight"))
    entries += _conv_entries(f"{prefix}final_conv", f"{ours}.final_conv")
    for source, target in (("space_linear", "hidden"), ("out_linear", "output")):
        entries += [Entry(f"{prefix}{source}.{name}", f"{ours}.{target}.{name}") for name in ("weight", "bias")]
    return entries


def _conv_entries(official: str, ours: str, blurred: bool = False) -> Layout:
    blur = [Entry(f"{official}.down_blur.kernel", f"{ours}.blur.kernel")] if blurred else []
    weight = Entry(f"{official}.equal_conv.weight", f"{ours}.conv.weight")
    return [*blur, weight, Entry(f"{official}.flrelu.bias", f"{ours}.bias")]
