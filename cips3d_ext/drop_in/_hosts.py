"""All adapters, in the order in which they are tried."""

from . import cips, cips3d, epigraf, pigan, renderers, stylegan, stylenerf, stylesdf, volumegan

ADAPTERS = (
    *pigan.ADAPTERS,
    *cips3d.ADAPTERS,
    *stylesdf.ADAPTERS,
    *cips.ADAPTERS,
    *stylenerf.ADAPTERS,  # before the others of its names: its layers take what theirs take, and more
    *stylegan.ADAPTERS,
    *volumegan.ADAPTERS,
    *epigraf.ADAPTERS,
    *renderers.ADAPTERS,  # last: whatever else calls a known function
)
