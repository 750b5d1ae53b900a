"""VolumeGAN (arXiv 2112.10759); its discriminator is the package's own with `stddev_group` 4."""

from cips3d.models.volumegan import public
from cips3d.models.volumegan.config import VolumeganGeneratorConfig
from cips3d.models.volumegan.generator import VolumeganGenerator

__all__ = ["VolumeganGenerator", "VolumeganGeneratorConfig", "public"]
