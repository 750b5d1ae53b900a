"""The networks of all models by their configurations: the one place that knows which there are."""

from __future__ import annotations

from typing import TypeAlias

from cips3d.models.base import BaseGenerator
from cips3d.models.base_discriminator import BaseDiscriminator
from cips3d.models.discriminator import Discriminator, DiscriminatorConfig
from cips3d.models.eg3d import Eg3dDiscriminator, Eg3dDiscriminatorConfig, Eg3dGenerator, Eg3dGeneratorConfig
from cips3d.models.generator import Generator
from cips3d.models.generator_config import GeneratorConfig
from cips3d.models.pigan import PiganDiscriminator, PiganDiscriminatorConfig, PiganGenerator, PiganGeneratorConfig
from cips3d.models.volumegan import VolumeganGenerator, VolumeganGeneratorConfig

# A mapping's key `model` tells them apart; without it the first is meant.
GeneratorConfigs: TypeAlias = GeneratorConfig | PiganGeneratorConfig | VolumeganGeneratorConfig | Eg3dGeneratorConfig
DiscriminatorConfigs: TypeAlias = DiscriminatorConfig | PiganDiscriminatorConfig | Eg3dDiscriminatorConfig

_GENERATORS: dict[type, type[BaseGenerator]] = {
    GeneratorConfig: Generator,
    PiganGeneratorConfig: PiganGenerator,
    VolumeganGeneratorConfig: VolumeganGenerator,
    Eg3dGeneratorConfig: Eg3dGenerator,
}
_DISCRIMINATORS: dict[type, type] = {
    DiscriminatorConfig: Discriminator,
    PiganDiscriminatorConfig: PiganDiscriminator,
    Eg3dDiscriminatorConfig: Eg3dDiscriminator,
}


def make_generator(config: GeneratorConfigs, impl: str = "auto") -> BaseGenerator:
    """The generator of a configuration, with new weights; `impl` goes to its ops."""
    return _GENERATORS[type(config)](config, impl)


def make_discriminator(config: DiscriminatorConfigs, channels_last: bool = False) -> BaseDiscriminator:
    """The discriminator of a configuration, with new weights; `channels_last` as in `BaseDiscriminator.lay_out`."""
    discriminator: BaseDiscriminator = _DISCRIMINATORS[type(config)](config)
    discriminator.lay_out(channels_last)
    return discriminator
