"""CIPS-3D (Zhou et al. 2021, arXiv 2110.09788): a 3D-aware GAN, a NeRF followed by a per-pixel INR.

import cips3d
generator = cips3d.models.load_official("G_ema.pth")
"""

import importlib
from types import ModuleType

_PARTS = ("config", "data", "metrics", "models", "render", "training")


def __getattr__(name: str) -> ModuleType:
    """The parts, imported on first use: the command line starts without torch."""
    if name in _PARTS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
