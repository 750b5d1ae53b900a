"""The volume renderer: `cips3d_ext.volume_render` with its options fixed once; it has no parameters."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from ..ops import VolumeRenderOutput, volume_render

# The function's keywords and their defaults, without those that are tensors.
_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(volume_render).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in ("noise", "ray_norm")
}


class VolumeRenderer(nn.Module):
    """Integrates features along rays.

    Options are the keywords of `cips3d_ext.volume_render` with its defaults (activation, rule, last_delta, last_back,
    white_back, ..., impl), checked here: TypeError for an unknown one, ValueError for a wrong value. `beta` is a number
    here; a learnable one is given to forward.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        unknown = sorted(set(options) - set(_DEFAULTS))
        if unknown:
            raise TypeError(f"VolumeRenderer: unknown options {unknown}; there are {list(_DEFAULTS)}")
        if isinstance(options.get("beta"), Tensor):
            raise TypeError("VolumeRenderer: beta must be a number; give a tensor to forward, as beta=")
        self.options = _DEFAULTS | options
        ray = torch.empty(1, 1, 2, device="meta")  # the op's own checks, without computing anything
        volume_render(ray, None, ray, **self.options)

    def forward(
        self,
        density: Tensor,
        features: Tensor | None,
        depths: Tensor,
        noise: Tensor | None = None,
        beta: Tensor | None = None,
        ray_norm: Tensor | None = None,
    ) -> VolumeRenderOutput:
        """density, depths, noise [B,R,S], features [B,R,S,C], beta one element, ray_norm [B,R] -> as volume_render."""
        options = self.options if beta is None else self.options | {"beta": beta}
        return volume_render(density, features, depths, noise=noise, ray_norm=ray_norm, **options)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items() if value != _DEFAULTS[name])
