"""EG3D (arXiv 2112.07945): a StyleGAN2 that draws three planes, volume rendering of them, super-resolution."""

from cips3d.models.eg3d import public
from cips3d.models.eg3d.config import Eg3dDiscriminatorConfig, Eg3dGeneratorConfig
from cips3d.models.eg3d.discriminator import Eg3dDiscriminator
from cips3d.models.eg3d.generator import Eg3dGenerator

__all__ = ["Eg3dDiscriminator", "Eg3dDiscriminatorConfig", "Eg3dGenerator", "Eg3dGeneratorConfig", "public"]
