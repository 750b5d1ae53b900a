"""A surface of the density field as triangles with the NeRF's own colours, by marching cubes, and files of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from skimage.filters import threshold_otsu
from skimage.measure import marching_cubes
from torch import Tensor
from trimesh import Scene, Trimesh
from trimesh.exchange.gltf import export_glb
from trimesh.exchange.obj import export_obj
from trimesh.exchange.ply import export_ply

from cips3d.files import written_whole
from cips3d.models.base import BaseGenerator
from cips3d_ext import SirenFieldOutput

FORMATS = (".ply", ".obj", ".glb")
POINTS_AT_A_TIME = 2**18  # in the field: bounds the memory at any resolution, except for the grid of 4 bytes a point
FRONT = (0.0, 0.0, -1.0)  # the direction of a camera that looks into the face
MAX_RESOLUTION = 1024  # a grid of 4 GiB
LEVEL_GRID = 64  # points along an axis that the default level is found from
# IEC 61966-2-1: where sRGB stops being linear, its slope there, and the offset and exponent of the rest.
SRGB_KNEE, SRGB_SLOPE, SRGB_OFFSET, SRGB_POWER = 0.04045, 12.92, 0.055, 2.4

Progress = Callable[[range], Iterable[int]]  # goes around the starts of the chunks


class Mesh(NamedTuple):
    """vertices [V,3] float32 in world units, faces [F,3] counter-clockwise from outside, colours [V,3] uint8 (sRGB)."""

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray


@torch.no_grad()
def extract_mesh(
    generator: BaseGenerator,
    w_shape: Tensor,
    resolution: int,
    step: float,
    level: float | None = None,
    progress: Progress = iter,
) -> Mesh:
    """The closed surface in the field's box where the density of one style w_shape [1,W] is `level`.

    resolution is the number of grid points along an axis, level a density in 1/length. By default the level is Otsu's
    threshold between empty and full space of the opacity that the density gives a ray over `step` (world units; a
    sample's share of the ray). Raises ValueError for a resolution out of range, or where no density is at the level.
    """
    if not 2 <= resolution <= MAX_RESOLUTION:
        raise ValueError(f"extract_mesh: resolution must be in 2 .. {MAX_RESOLUTION}, got {resolution}")
    field = generator.field_of(w_shape)
    grid = _density_grid(generator, field, w_shape, resolution, progress)
    vertices, faces = _surface(grid, _opacity_level(grid, step, generator.activation) if level is None else level)
    side = generator.config.box_side
    vertices = (vertices * (side / (resolution - 1)) - side / 2).astype(np.float32)
    return Mesh(vertices, faces, _colours(generator, field, w_shape, vertices))


def check_format(path: Path) -> None:
    """Raises ValueError unless `write_mesh` can write a file of this name."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"write_mesh: the file must end in {', '.join(FORMATS)}, got {path.name}")


def write_mesh(mesh: Mesh, path: Path, comment: str = "") -> None:
    """A binary .ply, an .obj with colours behind the coordinates, or a .glb, with `comment` in its metadata.

    glTF's vertex colours are linear, so those of a .glb are converted. Raises ValueError for another suffix.
    """
    check_format(path)
    suffix = path.suffix.lower()
    colours = _linear(mesh.colours) if suffix == ".glb" else mesh.colours
    body = Trimesh(mesh.vertices, mesh.faces, vertex_colors=colours, process=False, metadata={"comment": comment})
    if suffix == ".ply":
        data = export_ply(body).replace(b"\nelement vertex", f"\ncomment {comment}\nelement vertex".encode(), 1)
    elif suffix == ".obj":
        data = export_obj(body, header=comment).encode()
    else:
        data = export_glb(Scene(body), tree_postprocessor=_matt)
    with written_whole(path) as file:
        file.write(data)


def _density_grid(
    generator: BaseGenerator, field: Any, like: Tensor, resolution: int, progress: Progress
) -> np.ndarray:
    """The density [R,R,R] float32 over x, y, z from one face of the box to the other."""
    half = generator.config.box_side / 2
    axis = torch.linspace(-half, half, resolution, device=like.device, dtype=like.dtype)
    grid = np.empty(resolution**3, dtype=np.float32)
    for start in progress(range(0, len(grid), POINTS_AT_A_TIME)):
        index = torch.arange(start, min(start + POINTS_AT_A_TIME, len(grid)), device=axis.device)
        x, y, z = index // resolution**2, index // resolution % resolution, index % resolution
        density = _query(generator, field, axis[torch.stack([x, y, z], -1)]).density[0]
        grid[start : start + len(index)] = density.float().cpu().numpy()
    return grid.reshape(resolution, resolution, resolution)


def _query(generator: BaseGenerator, field: Any, points: Tensor) -> SirenFieldOutput:
    """The field at points [N,3], seen from in front where its colours depend on the view."""
    return generator.query(field, points[None], points.new_tensor([[FRONT]]))


def _opacity_level(grid: np.ndarray, step: float, activation: str) -> float:
    """The density whose opacity over `step` best parts the opacities into two groups.

    Opacities, since the densities of full space differ at will without a difference to be seen.
    """
    stride = max(1, len(grid) // LEVEL_GRID)
    empty, coarse = grid.dtype.type(0), grid[::stride, ::stride, ::stride]
    density = np.logaddexp(coarse, empty) if activation == "softplus" else np.maximum(coarse, empty)
    opacity = 1 - np.exp(-step * density)
    threshold = min(threshold_otsu(opacity.ravel()), 1 - np.finfo(opacity.dtype).eps)  # all opaque: no infinite level
    level = float(np.log1p(-threshold) / -step)
    return float(np.log(np.expm1(level))) if activation == "softplus" else level


def _surface(grid: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [V,3] in grid points and faces [F,3] of the closed surface around all that is denser than the level."""
    lowest, highest = float(grid.min()), float(grid.max())
    if not lowest < level < highest:
        raise ValueError(
            f"extract_mesh: the density is between {lowest:.4g} and {highest:.4g} and nowhere {level:.4g}; "
            "give a level between these"
        )
    # A layer of emptiness around the box closes what reaches its faces.
    padded = np.pad(grid, 1, constant_values=lowest)
    vertices, faces, _, _ = marching_cubes(padded, level, gradient_direction="ascent")  # faces seen from outside
    return (vertices - 1).clip(0, len(grid) - 1), faces


def _colours(generator: BaseGenerator, field: Any, like: Tensor, vertices: np.ndarray) -> np.ndarray:
    """The NeRF's own colours at the vertices, uint8 [V,3]."""
    colours = np.empty(vertices.shape, dtype=np.uint8)
    for start in range(0, len(vertices), POINTS_AT_A_TIME):
        part = slice(start, start + POINTS_AT_A_TIME)
        features = _query(generator, field, torch.from_numpy(vertices[part]).to(like)).features
        assert features is not None
        rgb = generator.nerf_colours(features)[0].float()
        colours[part] = ((rgb + 1) * 127.5).round().byte().cpu().numpy()
    return colours


def _linear(colours: np.ndarray) -> np.ndarray:
    """sRGB to linear, uint8 both."""
    c = colours / 255
    linear = np.where(c <= SRGB_KNEE, c / SRGB_SLOPE, ((c + SRGB_OFFSET) / (1 + SRGB_OFFSET)) ** SRGB_POWER)
    return (linear * 255).round().astype(np.uint8)


def _matt(tree: dict[str, Any]) -> None:
    """glTF's material where none is given is a metal, which many viewers show black."""
    tree["materials"] = [{"pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0}}]
    tree["meshes"][0]["primitives"][0]["material"] = 0
