"""Colour of a head's surface: paint by position, then one key light, sky light and occlusion.

Nothing depends on the viewing direction, so every view of a head shows the same coloured surface and a field without
view directions can represent it exactly. Points and normals are [3,N] float32 in head space, colours [3,N] in [0,1].
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cips3d.data.heads.parameters import HeadParameters
from cips3d.data.heads.sdf import EYE_HEIGHT, HeadSDF, Material, mouth_height

EDGE = 0.0006  # width of a painted edge, world units
FACE_BEGINS = 0.022  # z in front of which a face is painted
EYE_HALF_WIDTH = 0.0098
LOWER_LID = 0.62  # height of the lower lid's arc over the upper one's
IRIS_RADIUS, PUPIL, LIMBUS, GLINT = 0.0046, 0.42, 0.80, 0.26  # world units; the others over the iris's radius
LASH_WIDTH = 0.0011
BROW_HALF_LENGTH = 0.0125
LIP_HALF_WIDTH, UPPER_LIP, LOWER_LIP, MOUTH_LINE = 0.0165, 0.0042, 0.0058, 0.0007
SMILE_LIFT = 0.0042  # how far the corners of the mouth move at smile 1
OCCLUSION_REACH = 0.012
SHADOW_LIFT, SHADOW_REACH, SHADOW_CONE = 0.002, 0.016, 0.45
AMBIENT, SKY = 0.50, 0.12
WRAP = 0.3  # light wraps around soft surfaces
STRIPE_FREQUENCY = 900.0


def _inside(distance: Tensor) -> Tensor:
    """1 where `distance` (world units) is positive, 0 where negative, smooth over one EDGE."""
    return (distance / EDGE + 0.5).clamp(0, 1)


def _constant(colour: Sequence[float], like: Tensor) -> Tensor:
    return like.new_tensor(colour)[:, None].expand(3, like.shape[1])


def _paint(base: Tensor, colour: Sequence[float] | Tensor, amount: Tensor) -> Tensor:
    """Blend [3,N] towards a colour by amount [N]."""
    target = colour if isinstance(colour, Tensor) else base.new_tensor(colour)[:, None]
    return base + (target - base) * amount


def _eyes(p: HeadParameters, points: Tensor, base: Tensor) -> Tensor:
    """White, iris, pupil, glint and lashes inside the almond between the lids."""
    x, y, _ = points
    side = torch.where(x < 0, -1.0, 1.0)
    out, up = x.abs() - p.eye_distance, y - EYE_HEIGHT
    u = (out * math.cos(p.eye_tilt) + up * math.sin(p.eye_tilt)) / (EYE_HALF_WIDTH * p.eye_size)
    height = up * math.cos(p.eye_tilt) - out * math.sin(p.eye_tilt)
    arc = (1 - u.square()) * (EYE_HALF_WIDTH * p.eye_size * p.eye_open)
    visible = _inside(torch.minimum(arc - height, height + LOWER_LID * arc))
    radius = IRIS_RADIUS * p.eye_size
    gaze_x, gaze_y = side * out - p.gaze[0] * radius, up - p.gaze[1] * radius
    from_iris = (gaze_x.square() + gaze_y.square()).sqrt()
    iris = torch.tensor(p.iris)
    ball = _paint(_constant((0.95, 0.94, 0.93), points), tuple((iris * 0.35).tolist()), _inside(radius - from_iris))
    ball = _paint(ball, p.iris, _inside(radius * LIMBUS - from_iris))
    ball = _paint(ball, (0.03, 0.03, 0.04), _inside(radius * PUPIL - from_iris))
    glint = ((gaze_x - 0.35 * radius).square() + (gaze_y - 0.4 * radius).square()).sqrt()
    ball = _paint(ball, (1.0, 1.0, 1.0), _inside(radius * GLINT - glint))
    painted = _paint(base, ball, visible)
    lash = _inside(LASH_WIDTH - (height - arc).abs()) * _inside((1.08 - u.abs()) * EYE_HALF_WIDTH)
    painted = _paint(painted, (0.08, 0.05, 0.05), 0.9 * lash)
    crease = _inside(LASH_WIDTH * 0.7 - (height - arc - 0.0030).abs()) * _inside((1.0 - u.abs()) * EYE_HALF_WIDTH)
    return painted * (1 - 0.22 * crease)


def _brows(p: HeadParameters, points: Tensor, base: Tensor) -> Tensor:
    x, y, _ = points
    u = (x.abs() - p.eye_distance) / BROW_HALF_LENGTH
    middle = EYE_HEIGHT + p.brow_height + BROW_HALF_LENGTH * (p.brow_tilt * u - 0.16 * u.square())
    thickness = p.brow_thickness * (1.0 - 0.35 * u)
    inside = _inside(torch.minimum(thickness - (y - middle).abs(), (1 - u.abs()) * BROW_HALF_LENGTH))
    return _paint(base, tuple(0.75 * c for c in p.hair), 0.88 * inside)


def _mouth(p: HeadParameters, points: Tensor, base: Tensor) -> Tensor:
    x, y, _ = points
    u = x / (LIP_HALF_WIDTH * p.mouth_width)
    height = y - mouth_height(p) - SMILE_LIFT * p.smile * (u.square() - 0.25)
    taper = (1 - u.square()).clamp(min=0).sqrt()
    bow = 1 - 0.28 * torch.exp(-(u / 0.16).square())
    upper = UPPER_LIP * p.lip_fullness * taper * bow - height
    lower = height + LOWER_LIP * p.lip_fullness * taper
    lips = _inside(torch.minimum(upper, lower)) * (u.abs() < 1)
    painted = _paint(base, p.lips, lips)
    line = _inside(MOUTH_LINE - height.abs()) * (u.abs() < 0.9)
    return _paint(painted, tuple(0.35 * c for c in p.lips), 0.8 * line)


def _beard(p: HeadParameters, points: Tensor, base: Tensor) -> Tensor:
    x, y, z = points
    mouth = mouth_height(p)
    jaw = ((mouth + 0.013 - y + 9.0 * x.square()) / 0.008).clamp(0, 1) * ((z + 0.005) / 0.02).clamp(0, 1)
    below = ((y + 0.078) / 0.012).clamp(0, 1)  # ends on the throat
    around_lips = 1 - torch.exp(-(x / 0.013).square() - ((y - mouth) / 0.007).square())
    return _paint(base, tuple(0.8 * c for c in p.hair), 0.75 * p.beard * jaw * below * around_lips)


def _skin(p: HeadParameters, points: Tensor) -> Tensor:
    """Skin with everything painted on a face; the eyeballs take part, since lids and eyes are one almond."""
    x, y, z = points
    base = _constant(p.skin, points)
    cheek = torch.exp(-((x.abs() - 0.026) / 0.012).square() - ((y + 0.016) / 0.010).square())
    nose = torch.exp(-(x / 0.009).square() - ((y + 0.013) / 0.008).square())
    blush = (0.30 * cheek + 0.18 * nose) * (z > FACE_BEGINS)
    base = _paint(base, tuple(c * t for c, t in zip(p.skin, (1.0, 0.72, 0.68), strict=True)), blush)
    if p.beard:
        base = _beard(p, points, base)
    face = _eyes(p, points, _brows(p, points, _mouth(p, points, base)))
    return torch.where(z > FACE_BEGINS, face, base)


def strands(p: HeadParameters, points: Tensor) -> Tensor:
    """The wave [N] of hair that falls from the parting, within +-1.6, over the angle around an axis through it."""
    x, y, z = points
    angle = torch.atan2(x + p.hair_side * 0.018, z + 0.01)
    return torch.sin(38 * angle + 60 * y) + 0.6 * torch.sin(91 * angle - 90 * y + p.curl_phase)


def _hair(p: HeadParameters, points: Tensor) -> Tensor:
    return _constant(p.hair, points) * (1 + 0.13 * strands(p, points))


def _clothes(p: HeadParameters, points: Tensor) -> Tensor:
    x, y, z = points
    base = _constant(p.clothes, points)
    if p.stripes:
        base = _paint(base, p.collar, p.stripes * (torch.sin(y * STRIPE_FREQUENCY) > 0.2))
    neck = ((x / 0.040).square() + ((z + 0.014) / 0.040).square()).sqrt()
    return _paint(base, p.collar, _inside((1 - neck) * 0.03))


def albedo(p: HeadParameters, material: Tensor, points: Tensor) -> Tensor:
    """Unlit colour [3,N] of points [3,N] made of material [N]."""
    colour = torch.empty_like(points)
    for rows, paint in (
        (material <= Material.EYE, _skin),
        (material == Material.HAIR, _hair),
        (material == Material.CLOTHES, _clothes),
    ):
        colour[:, rows] = paint(p, points[:, rows])
    return colour


def shade(p: HeadParameters, sdf: HeadSDF, points: Tensor, directions: Tensor) -> Tensor:
    """Lit colour [3,N] of surface points [3,N], the same from all `directions`."""
    material, normals = sdf.surface(points)
    light = points.new_tensor(p.light)[:, None]
    occlusion = (sdf(points + normals * OCCLUSION_REACH) / OCCLUSION_REACH).clamp(0, 1)
    towards_light = points + normals * SHADOW_LIFT + light * SHADOW_REACH
    shadow = (sdf(towards_light) / (SHADOW_CONE * SHADOW_REACH)).clamp(0, 1)
    cosine = (normals * light).sum(0)
    diffuse = ((cosine + WRAP) / (1 + WRAP)).clamp(min=0) * (0.35 + 0.65 * shadow)
    sky = (AMBIENT + SKY * normals[1]) * (0.4 + 0.6 * occlusion)
    half = torch.nn.functional.normalize(light + light.new_tensor([[0.0], [0.0], [1.0]]), dim=0)
    facing = (normals * half).sum(0).clamp(min=0)
    hair = (material == Material.HAIR).float()
    gloss = (0.10 + 0.16 * hair) * facing.pow(22) * shadow + 0.05 * (1 - hair) * facing.pow(80)
    colour = albedo(p, material, points) * (sky + p.light_strength * diffuse) + gloss * p.light_strength
    return colour.clamp(0, 1)
