"""Faster layers for other people's 3D GANs: `accelerate` a model as it is, or import a layer that has the host's shape.

    import cips3d_ext
    print(cips3d_ext.accelerate(generator))      # in place; numbers, parameters and checkpoints stay
    cips3d_ext.undo(generator)

One file a host: its layers as nn.Modules with the host's constructors, keys and forwards, and how the originals are
known; its rendering functions with the host's signatures.
"""

from . import cips, cips3d, eg3d, epigraf, giraffe, pigan, stylegan, stylenerf, stylesdf, volumegan
from ._accelerate import Entry, Report, accelerate, undo
from ._adapter import FAMILIES

__all__ = [
    "FAMILIES",
    "Entry",
    "Report",
    "accelerate",
    "cips",
    "cips3d",
    "eg3d",
    "epigraf",
    "giraffe",
    "pigan",
    "stylegan",
    "stylenerf",
    "stylesdf",
    "undo",
    "volumegan",
]
