"""Pure-PyTorch definitions of the ops: forward (differentiable) and closed-form backward (differentiable as well).

Every op of `cips3d_ext` is defined here; the fused kernels are compared with these functions. They import nothing but
torch, take the arguments of the dispatcher schemas (same names, same order; options as keywords), and do not check
shapes: `cips3d_ext.ops` does that for all implementations. float16 and bfloat16 are computed in float32 and rounded
once.

The functions have the names of their modules, as in `cips3d_ext.ops`: `reference.modfc` is the function.
"""

from .film_sine import film_sine, film_sine_backward
from .merge_samples import merge_samples, merge_samples_gather, merge_samples_scatter
from .modfc import modfc, modfc_backward, modfc_with_rgb
from .render_rays import RenderRaysOptions, RenderRaysParts, render_rays, render_rays_backward
from .sample_pdf import sample_pdf
from .sample_planes import sample_planes, sample_planes_backward
from .sample_volume import sample_volume, sample_volume_backward
from .siren_field import COORDINATES, siren_field, siren_field_backward, siren_field_shapes
from .volume_render import volume_render, volume_render_backward

__all__ = [
    "COORDINATES",
    "RenderRaysOptions",
    "RenderRaysParts",
    "film_sine",
    "film_sine_backward",
    "merge_samples",
    "merge_samples_gather",
    "merge_samples_scatter",
    "modfc",
    "modfc_backward",
    "modfc_with_rgb",
    "render_rays",
    "render_rays_backward",
    "sample_pdf",
    "sample_planes",
    "sample_planes_backward",
    "sample_volume",
    "sample_volume_backward",
    "siren_field",
    "siren_field_backward",
    "siren_field_shapes",
    "volume_render",
    "volume_render_backward",
]
