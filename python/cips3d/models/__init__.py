"""The networks of CIPS-3D and, a folder each, of other models; `base` and `base_discriminator` are what all offer,
`registry` lists them.

Import and export of the official state dicts; `view` and `mesh` show a generator.
"""

from cips3d.models.discriminator import Discriminator, DiscriminatorConfig
from cips3d.models.generator import Generator
from cips3d.models.generator_config import GeneratorConfig
from cips3d.models.official import export_official, load_official, official_gradients

__all__ = [
    "Discriminator",
    "DiscriminatorConfig",
    "Generator",
    "GeneratorConfig",
    "export_official",
    "load_official",
    "official_gradients",
]
