"""Fused kernels for 3D-aware GANs on CPU and CUDA: ModFC, FiLM-sine, volume rendering; with second derivatives.

    import cips3d_ext
    y = cips3d_ext.modfc(x, weight, style, activation="lrelu")     # x [B,N,I], weight [O,I], style [B,I] -> [B,N,O]
    print(cips3d_ext.status())                                     # what was built and which kernels each op takes

The ops live in `ops/` (one file each), their definitions in plain PyTorch in `reference/`, nn.Modules in `layers/`.
"""

from ._native import native as _native
from ._status import OpStatus, Status, status
from .counter_random import counter_uniform
from .drop_in import Report, accelerate, undo
from .layers import Films, FiLMSine, ModFC, SirenField, VolumeRenderer
from .ops import (
    ModfcRgb,
    RenderRaysOutput,
    SirenFieldOutput,
    VolumeRenderOutput,
    film_sine,
    merge_samples,
    modfc,
    modfc_with_rgb,
    render_rays,
    sample_pdf,
    sample_planes,
    sample_volume,
    siren_field,
    volume_render,
)

__version__ = "0.1.0"

__all__ = [
    "FiLMSine",
    "Films",
    "ModFC",
    "ModfcRgb",
    "OpStatus",
    "RenderRaysOutput",
    "Report",
    "SirenField",
    "SirenFieldOutput",
    "Status",
    "VolumeRenderOutput",
    "VolumeRenderer",
    "accelerate",
    "build_info",
    "counter_uniform",
    "film_sine",
    "merge_samples",
    "modfc",
    "modfc_with_rgb",
    "render_rays",
    "sample_pdf",
    "sample_planes",
    "sample_volume",
    "siren_field",
    "status",
    "undo",
    "volume_render",
]


def build_info() -> dict[str, object] | None:
    """What the compiled libraries contain (compilers, CUDA architectures, SIMD levels), or None without them."""
    return None if _native.build is None else dict(_native.build)
