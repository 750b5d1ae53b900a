"""The same heads as drawings: vivid colours, big eyes, bands of light, ink where materials meet and at silhouettes.

Shape and pose are untouched: a toon and the head of the same number differ in colour alone. Only the silhouette's ink
depends on the viewing direction, as it does in a drawing.
"""

import colorsys
import dataclasses

import torch
from torch import Tensor

from cips3d.data.heads.parameters import Colour, HeadParameters
from cips3d.data.heads.sdf import HeadSDF, Material
from cips3d.data.heads.shading import albedo, strands

EYES, BROW_THICKNESS, BROW_LIFT = 1.6, 1.3, 0.0075  # factors; the lift makes room for the eyes, world units
EYES_OPEN = 1.0  # round
SATURATION, VALUE = 1.6, 1.25  # factors for hair, clothes, iris and background
LEAST_VALUE = 0.3  # of the same, so that ink shows on black hair
SKIN_SATURATION, SKIN_VALUE = 1.25, 1.12  # factors
LIPS: Colour = (0.86, 0.18, 0.26)
INK: Colour = (0.07, 0.05, 0.12)
INK_WIDTH = 0.0014  # world units on either side of a line between two materials: half a pixel at 64 x 64
SILHOUETTE = 0.34  # cosine between normal and viewing direction below which a surface is ink
BANDS = ((-0.15, 0.68), (0.45, 0.86))  # (cosine of the light below which a colour is darker, factor)
SHADOW_TINT: Colour = (0.86, 0.88, 1.0)  # the darkest band is bluish
STREAK, STREAK_ABOVE = 0.78, 0.55  # strands of hair above so much of their wave are drawn darker


def _vivid(colour: Colour, saturation: float, value: float, least_value: float = 0.0) -> Colour:
    hue, s, v = colorsys.rgb_to_hsv(*colour)
    return colorsys.hsv_to_rgb(hue, min(1.0, s * saturation), min(1.0, max(v * value, least_value)))


def draw(p: HeadParameters) -> HeadParameters:
    """The colours and the painted face of a person as a drawing; the shape must still be made from `p` itself."""

    def bright(colour: Colour) -> Colour:
        return _vivid(colour, SATURATION, VALUE, LEAST_VALUE)

    flat = bright(p.background[1])
    return dataclasses.replace(
        p,
        eye_size=p.eye_size * EYES,
        eye_open=EYES_OPEN,
        eye_tilt=0.0,
        brow_height=p.brow_height + BROW_LIFT,
        brow_thickness=p.brow_thickness * BROW_THICKNESS,
        skin=_vivid(p.skin, SKIN_SATURATION, SKIN_VALUE),
        hair=bright(p.hair),
        iris=bright(p.iris),
        lips=LIPS,
        clothes=bright(p.clothes),
        background=(flat, flat),
    )


def shade_toon(p: HeadParameters, sdf: HeadSDF, points: Tensor, directions: Tensor) -> Tensor:
    """Drawn colour [3,N] of surface points [3,N] seen along unit `directions` [3,N]; `p` is what `draw` gave."""
    material, normals = sdf.surface(points)
    locks = torch.where(strands(p, points) > STREAK_ABOVE, STREAK, 1.0)
    colour = torch.where(
        material == Material.HAIR, points.new_tensor(p.hair)[:, None] * locks, albedo(p, material, points)
    )
    cosine = (normals * points.new_tensor(p.light)[:, None]).sum(0)
    dark, middle = BANDS
    tint = points.new_tensor(SHADOW_TINT)[:, None] * dark[1]
    colour = torch.where(cosine < dark[0], colour * tint, torch.where(cosine < middle[0], colour * middle[1], colour))
    skin, eye, hair, clothes = sdf.distances(points)
    second = torch.stack([torch.minimum(skin, eye), hair, clothes]).kthvalue(2, dim=0).values
    inked = (second < INK_WIDTH) | (-(normals * directions).sum(0) < SILHOUETTE)
    return torch.where(inked, points.new_tensor(INK)[:, None], colour).clamp(0, 1)
