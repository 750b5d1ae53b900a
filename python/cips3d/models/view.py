"""What a person looks at: the image, the NeRF's own, depth and normals of a generator, in chunks of rays."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cips3d.models.base import BaseGenerator, Styles
from cips3d.render.draws import Draws
from cips3d.render.image import all_pixels
from cips3d.render.rays import Camera, Rays
from cips3d.render.volume import VolumeSettings, render_normals

PANELS = ("inr", "nerf", "depth", "normal")


@torch.no_grad()
def view(
    generator: BaseGenerator,
    w_shape: Tensor,
    w_appearance: Tensor,
    camera: Camera,
    panels: Sequence[str],
    resolution: int,
    settings: VolumeSettings,
    ray_chunk: int,
) -> dict[str, Tensor]:
    """The chosen `panels` of the styles w_shape [B,W], w_appearance [B,W'] or [B,K,W'] (of each INR block) by name.

    Float32 on the CPU, without randomness: equal arguments, equal pixels.

    inr, nerf   [B,3,S,S] in [-1,1]: the image, and the NeRF's own image
    depth       [B,1,S,S] in world units; what a ray does not hit counts as at the far end
    normal      [B,3,S,S] unit vectors in the camera's axes, x right, y up, z towards the camera; 0 where nothing is hit

    Only `ray_chunk` rays of each image are in the networks at a time, so memory beyond the panels does not grow with S.
    Raises ValueError for an unknown panel.
    """
    unknown = [name for name in panels if name not in PANELS]
    if unknown or not panels:
        raise ValueError(f"view: panels must be some of {', '.join(PANELS)}, got {', '.join(panels) or 'none'}")
    camera = camera.to(w_shape.device, w_shape.dtype)
    styles = generator.styles(w_shape, w_appearance)
    result: dict[str, Tensor] = {}
    if "inr" in panels and generator.upsamples:  # the image may be made of fewer rays than pixels, the rest of as many
        side = generator.ray_side(resolution)
        shown = _traced(generator, styles, camera, ("inr", "nerf"), side, settings, ray_chunk)
        pixels, nerf_image = (shown[name].to(w_shape) for name in ("inr", "nerf"))
        image = generator.upsample(styles.painter, pixels, nerf_image, resolution, None, 1.0)
        result["inr"] = image.float().cpu()
    rest = [name for name in panels if name not in result]
    if rest:
        result |= _traced(generator, styles, camera, rest, resolution, settings, ray_chunk)
    return result


def _traced(
    generator: BaseGenerator,
    styles: Styles,
    camera: Camera,
    panels: Sequence[str],
    side: int,
    settings: VolumeSettings,
    ray_chunk: int,
) -> dict[str, Tensor]:
    """The panels [B,*,side,side] as traced, the image before it is upsampled."""
    rays, example = generator.rays(camera, side), camera.cam2world
    even = Draws.none(samples=settings.samples, device=example.device, dtype=example.dtype)
    draws = Draws(even.jitter, even.u if settings.hierarchical else None)

    def shown(index: slice) -> tuple[Tensor, ...]:
        chosen = Rays(rays.origins[:, index], rays.directions[:, index])
        feature, depth, weights = generator.trace(styles.field, chosen, draws.take(index), settings)

        def panel(name: str) -> Tensor:
            if name == "inr":
                return generator.colours(styles.painter, feature)
            if name == "nerf":
                return generator.nerf_colours(feature)
            if name == "depth":
                return (depth + (1 - weights.sum(-1)) * settings.far)[..., None]
            return render_normals(generator, styles.field, chosen, settings) @ camera.cam2world[:, :3, :3]

        return tuple(panel(name).float().cpu() for name in panels)

    fields = all_pixels(shown, side * side, ray_chunk)
    return {name: field.mT.unflatten(-1, (side, side)) for name, field in zip(panels, fields, strict=True)}
