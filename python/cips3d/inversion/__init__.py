"""From pictures back to styles and poses, which the paper leaves to future work."""

from cips3d.inversion.latents import Latents, load_latents, save_latents
from cips3d.inversion.optimise import Inversion, InversionSettings, invert

__all__ = ["Inversion", "InversionSettings", "Latents", "invert", "load_latents", "save_latents"]
