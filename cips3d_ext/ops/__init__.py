"""The ops: one file each, always in the same order (schema, fake, registration, public function)."""

from .film_sine import film_sine
from .merge_samples import merge_samples
from .modfc import modfc
from .sample_pdf import sample_pdf
from .volume_render import VolumeRenderOutput, volume_render

__all__ = ["VolumeRenderOutput", "film_sine", "merge_samples", "modfc", "sample_pdf", "volume_render"]
