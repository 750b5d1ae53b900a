"""What a person looks at: the INR's image, the NeRF's own, depth and normals of a generator, in chunks of rays."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cips3d.models.generator import Generator
from cips3d.render.draws import Draws
from cips3d.render.image import all_pixels
from cips3d.render.rays import Camera, Rays, camera_rays
from cips3d.render.volume import VolumeSettings, render_features, render_normals

PANELS = ("inr", "nerf", "depth", "normal")


@torch.no_grad()
def view(
    generator: Generator,
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

    inr, nerf   [B,3,S,S] in [-1,1]: the image, and the NeRF's own image by the auxiliary head
    depth       [B,1,S,S] in world units; what a ray does not hit counts as at the far end
    normal      [B,3,S,S] unit vectors in the camera's axes, x right, y up, z towards the camera; 0 where nothing is hit

    Only `ray_chunk` rays of each image are in the networks at a time, so memory beyond the panels does not grow with S.
    Raises ValueError for an unknown panel.
    """
    unknown = [name for name in panels if name not in PANELS]
    if unknown or not panels:
        raise ValueError(f"view: panels must be some of {', '.join(PANELS)}, got {', '.join(panels) or 'none'}")
    camera = camera.to(w_shape.device, w_shape.dtype)
    rays, count = camera_rays(camera, resolution), resolution * resolution
    even = Draws.none(samples=settings.samples, device=w_shape.device, dtype=w_shape.dtype)
    draws = Draws(even.jitter, even.u if settings.hierarchical else None)
    styles = generator.styles(w_shape, w_appearance)

    def shown(index: slice) -> tuple[Tensor, ...]:
        chosen = Rays(rays.origins[:, index], rays.directions[:, index])
        feature, depth, weights = render_features(generator.field, styles.films, chosen, draws.take(index), settings)

        def panel(name: str) -> Tensor:
            if name == "inr":
                return generator.inr(feature, styles.inr)
            if name == "nerf":
                return generator.nerf_colours(feature)
            if name == "depth":
                return (depth + (1 - weights.sum(-1)) * settings.far)[..., None]
            return render_normals(generator.field, styles.films, chosen, settings) @ camera.cam2world[:, :3, :3]

        return tuple(panel(name).float().cpu() for name in panels)

    fields = all_pixels(shown, count, ray_chunk)
    return {name: field.mT.unflatten(-1, (resolution, resolution)) for name, field in zip(panels, fields, strict=True)}
