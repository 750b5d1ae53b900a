"""nn.Modules over the public functions of `cips3d_ext.ops`: parameters, initialisation and style maps, no math.

`impl` chooses the implementation of the op as in the functions; it changes neither parameters nor state-dict names.
"""

from .film_sine import FiLMSine
from .modfc import ModFC
from .siren_field import Films, SirenField
from .volume_renderer import VolumeRenderer

__all__ = ["FiLMSine", "Films", "ModFC", "SirenField", "VolumeRenderer"]
