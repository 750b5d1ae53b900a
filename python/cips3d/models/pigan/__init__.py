"""pi-GAN (arXiv 2012.00926): a FiLM-SIREN field with view directions, whose colours are the image; no INR."""

from cips3d.models.pigan import public
from cips3d.models.pigan.config import PiganDiscriminatorConfig, PiganGeneratorConfig
from cips3d.models.pigan.discriminator import PiganDiscriminator
from cips3d.models.pigan.generator import PiganGenerator

__all__ = ["PiganDiscriminator", "PiganDiscriminatorConfig", "PiganGenerator", "PiganGeneratorConfig", "public"]
