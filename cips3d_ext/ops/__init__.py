"""The ops: one file each, always in the same order (schema, fake, registration, public function)."""

from .film_sine import film_sine
from .merge_samples import merge_samples
from .modfc import ModfcRgb, modfc, modfc_with_rgb
from .render_rays import RenderRaysOutput, render_rays
from .sample_pdf import sample_pdf
from .sample_planes import sample_planes
from .sample_volume import sample_volume
from .siren_field import SirenFieldOutput, siren_field
from .volume_render import VolumeRenderOutput, volume_render

__all__ = [
    "ModfcRgb",
    "RenderRaysOutput",
    "SirenFieldOutput",
    "VolumeRenderOutput",
    "film_sine",
    "merge_samples",
    "modfc",
    "modfc_with_rgb",
    "render_rays",
    "sample_pdf",
    "sample_planes",
    "sample_volume",
    "siren_field",
    "volume_render",
]
