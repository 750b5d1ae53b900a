"""The shape of a head: ellipsoids, smoothly joined within a material, as one signed-distance function.

The first-order distance to an ellipsoid is k0 (k0 - 1) / k1, k0 = |p/r|, k1 = |p/r^2| (Inigo Quilez, "Ellipsoid -
distance"). Both squares are quadratic in p, so that one matrix product with the ten monomials of p gives them for all
ellipsoids. The smooth union is -b log sum exp(-d / b), which does not depend on an order.

Axes: K ellipsoids, N points. Coordinates are head space (see parameters.py), float32.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from cips3d.data.heads.parameters import HeadParameters

FACE_FRONT = 0.058  # z of the face's surface between the eyes
EYE_HEIGHT = 0.004  # y of the eyes
EYE_DEPTH = 0.0428  # z of the eyeballs' centres
EYE_RADIUS = 0.0098
MOUTH_HEIGHT = -0.0335  # y of the line between the lips at chin_length 1
SMALLEST_SQUARE = 1e-6  # keeps k0, k1 off zero in an ellipsoid's middle, where rounding can make them negative


class Material(IntEnum):
    """What a surface point is made of; the row of HeadSDF.distances."""

    SKIN = 0
    EYE = 1
    HAIR = 2
    CLOTHES = 3


class Group(IntEnum):
    """Ellipsoids that are joined with one another before groups are cut and joined into materials."""

    SKIN = 0
    SOCKET = 1  # taken from the skin
    EYE = 2
    CAP = 3  # hair around the skull
    OPENING = 4  # taken from the cap: the face
    LOCKS = 5  # hair that is not cut: fringe, lengths, bun
    CLOTHES = 6


# Radius of the smooth joint within a group, world units: small where features are small.
BLEND = {
    Group.SKIN: 0.0035,
    Group.SOCKET: 0.003,
    Group.EYE: 0.001,
    Group.CAP: 0.004,
    Group.OPENING: 0.004,
    Group.LOCKS: 0.005,
    Group.CLOTHES: 0.006,
}
SOCKET_CUT, CAP_CUT, LOCKS_JOINT = 0.003, 0.0025, 0.006  # radii of smooth cuts, and of locks joining the cap
EXPONENT_LIMIT = 80.0  # e^80 is well within float32; distances saturate at 80 blend radii, on the safe side
CHUNK = 2048  # points at once: the few arrays of K rows stay in the L2 cache
CURL_FREQUENCY, CURL_AMPLITUDE = 420.0, 0.0022  # bumps of curly hair: rad per unit length, world units


@dataclass(frozen=True)
class Ellipsoid:
    """One ellipsoid; `roll` turns it about z (counter-clockwise as seen from the front), then `tilt` about x, rad."""

    group: Group
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    roll: float = 0.0
    tilt: float = 0.0


def _pair(group: Group, centre: tuple[float, float, float], radii: tuple[float, float, float], roll: float = 0.0):
    """An ellipsoid and its mirror image in x."""
    x, y, z = centre
    return [Ellipsoid(group, centre, radii, roll), Ellipsoid(group, (-x, y, z), radii, -roll)]


def mouth_height(p: HeadParameters) -> float:
    """y of the line between the lips."""
    return MOUTH_HEIGHT * (0.5 + 0.5 * p.chin_length)


def _skin(p: HeadParameters) -> list[Ellipsoid]:
    w, h, nose, mouth = p.head_width, p.head_height, p.nose_width, mouth_height(p)
    tip = -0.0135 * p.nose_length
    return [
        Ellipsoid(Group.SKIN, (0, 0.018, -0.008), (0.053 * w, 0.058 * h, 0.062)),
        Ellipsoid(Group.SKIN, (0, -0.012, 0.010), (0.045 * w, 0.052 * h, 0.043)),
        Ellipsoid(Group.SKIN, (0, -0.040 * p.chin_length, 0.020), (0.029 * p.jaw_width, 0.021, 0.026)),
        Ellipsoid(Group.SKIN, (0, -0.054 * p.chin_length, 0.036), (0.011 * p.jaw_width, 0.008, 0.009)),
        *_pair(Group.SKIN, (0.023 * w, -0.013, 0.032), (0.015 * p.cheek, 0.014 * p.cheek, 0.015)),
        *_pair(Group.SKIN, (0.018, EYE_HEIGHT + p.brow_height, 0.0375), (0.0135, 0.0060, 0.0095), -0.1),
        Ellipsoid(Group.SKIN, (0, -0.001, 0.054), (0.0042 * nose, 0.016 * p.nose_length, 0.0065), tilt=-0.32),
        Ellipsoid(Group.SKIN, (0, tip, 0.0625), (0.0068 * nose, 0.0058, 0.0075)),
        *_pair(Group.SKIN, (0.0068 * nose, tip - 0.001, 0.0545), (0.0042, 0.0042, 0.006)),
        Ellipsoid(Group.SKIN, (0, mouth + 0.0026, 0.0470), (0.0115 * p.mouth_width, 0.0042 * p.lip_fullness, 0.0072)),
        Ellipsoid(Group.SKIN, (0, mouth - 0.0036, 0.0465), (0.0095 * p.mouth_width, 0.0046 * p.lip_fullness, 0.0076)),
        *_pair(Group.SKIN, (0.0515 * w, -0.003, -0.004), (0.0055, 0.0165 * p.ear_size, 0.0105 * p.ear_size), -0.18),
        Ellipsoid(Group.SKIN, (0, -0.080, -0.014), (0.0255 * (0.6 + 0.4 * p.jaw_width), 0.055, 0.026), tilt=0.12),
    ]


def _eyes(p: HeadParameters) -> list[Ellipsoid]:
    x, r = p.eye_distance, EYE_RADIUS * p.eye_size
    return [
        *_pair(Group.SOCKET, (x, EYE_HEIGHT + 0.001, 0.0610), (0.0135, 0.0075, 0.0115), 0.1),
        *_pair(Group.EYE, (x, EYE_HEIGHT, EYE_DEPTH), (r, r, r)),
    ]


def _fringe(p: HeadParameters) -> list[Ellipsoid]:
    """Locks that sweep from the parting on one side over the forehead to the other: what makes a head asymmetric."""
    s, v, low = p.hair_side, p.hair_volume, 0.007 * p.fringe
    return [
        Ellipsoid(Group.LOCKS, (s * 0.010, 0.059 - low, 0.037), (0.028, 0.0115 * v, 0.017), roll=-s * 0.42, tilt=-0.3),
        Ellipsoid(Group.LOCKS, (s * 0.032, 0.044 - low, 0.030), (0.0175, 0.0105 * v, 0.016), roll=-s * 0.95, tilt=-0.2),
        Ellipsoid(Group.LOCKS, (s * 0.0455, 0.026 - low, 0.016), (0.0165, 0.0075 * v, 0.012), roll=-s * 1.35),
        Ellipsoid(Group.LOCKS, (-s * 0.030, 0.060, 0.026), (0.016, 0.0085 * v, 0.016), roll=s * 0.75, tilt=-0.3),
        Ellipsoid(Group.LOCKS, (-s * 0.046, 0.037, 0.014), (0.017, 0.006 * v, 0.013), roll=s * 1.25),
    ]


def _lengths(p: HeadParameters) -> list[Ellipsoid]:
    """Loose hair of the style; the side of the fringe carries a little more."""
    s, w, v, length = p.hair_side, p.head_width, p.hair_volume, p.hair_length
    if p.hair_style == "bun":
        return [Ellipsoid(Group.LOCKS, (-s * 0.012, 0.082, -0.022), (0.022 * v, 0.019 * v, 0.021 * v))]
    if p.hair_style == "ponytail":
        reach = 0.035 + 0.025 * length
        return [
            Ellipsoid(Group.LOCKS, (s * 0.055, 0.010, -0.045), (0.016, 0.018, 0.018)),
            Ellipsoid(Group.LOCKS, (s * 0.066, -0.012 - reach, -0.030), (0.013 * v, reach, 0.015 * v), roll=s * 0.12),
        ]
    if p.hair_style not in ("bob", "long"):
        return []
    reach = 0.034 + 0.008 * length if p.hair_style == "bob" else 0.050 + 0.012 * length
    top = 0.024
    return [
        Ellipsoid(Group.LOCKS, (s * 0.053 * w, top - reach, -0.002), (0.0145 * v, reach, 0.026), roll=s * 0.06),
        Ellipsoid(Group.LOCKS, (-s * 0.053 * w, top - reach, -0.008), (0.0120 * v, reach, 0.024), roll=-s * 0.06),
        Ellipsoid(Group.LOCKS, (0, top - reach, -0.040), (0.050 * w, reach, 0.026)),
    ]


def _hair(p: HeadParameters) -> list[Ellipsoid]:
    s, w, h, v = p.hair_side, p.head_width, p.head_height, p.hair_volume
    volume = v * (1.07 if p.hair_style == "curly" else 1.0)
    return [
        Ellipsoid(Group.CAP, (0, 0.022, -0.013), (0.0575 * w * volume, 0.060 * h * volume, 0.064 * volume)),
        Ellipsoid(Group.CAP, (s * 0.012, 0.045, -0.004), (0.045 * w, 0.042 * volume, 0.050)),
        Ellipsoid(Group.OPENING, (-s * 0.004, 0.000, 0.075), (0.047 * w, 0.054, 0.066), roll=-s * 0.16),
        Ellipsoid(Group.OPENING, (0, -0.050, 0.020), (0.080, 0.042, 0.060)),
        *_fringe(p),
        *_lengths(p),
    ]


def _clothes(p: HeadParameters) -> list[Ellipsoid]:
    return [
        Ellipsoid(Group.CLOTHES, (0, -0.128, -0.016), (0.100, 0.036, 0.040)),
        Ellipsoid(Group.CLOTHES, (0, -0.112, -0.013), (0.055, 0.024, 0.036)),
        Ellipsoid(Group.CLOTHES, (0, -0.0935, -0.014), (0.0335, 0.0085, 0.0330), tilt=0.25),
    ]


def ellipsoids(p: HeadParameters) -> list[Ellipsoid]:
    """All ellipsoids of a head, sorted by group."""
    return sorted([*_skin(p), *_eyes(p), *_hair(p), *_clothes(p)], key=lambda e: e.group)


def _quadratic_forms(shapes: list[Ellipsoid]) -> Tensor:
    """[2K,10] float32: coefficients of |p/r|^2 (first K rows) and |p/r^2|^2 over the monomials of `_monomials`."""
    rows = []
    for power in (2, 4):
        for e in shapes:
            roll, tilt = (np.cos(e.roll), np.sin(e.roll)), (np.cos(e.tilt), np.sin(e.tilt))
            axes = np.array(  # columns: the ellipsoid's own axes, turned by Rx(tilt) Rz(roll)
                [
                    [roll[0], -roll[1], 0],
                    [roll[1] * tilt[0], roll[0] * tilt[0], -tilt[1]],
                    [roll[1] * tilt[1], roll[0] * tilt[1], tilt[0]],
                ]
            )
            form = axes @ np.diag(np.array(e.radii) ** -power) @ axes.T
            centre = np.array(e.centre)
            cross = 2 * form[[0, 0, 1], [1, 2, 2]]
            rows.append([*np.diag(form), *cross, *(-2 * form @ centre), centre @ form @ centre])
    return torch.tensor(np.array(rows), dtype=torch.float32)


def _monomials(points: Tensor) -> Tensor:
    """points [3,N] -> xx, yy, zz, xy, xz, yz, x, y, z, 1 [10,N]."""
    products = points[[0, 0, 1]] * points[[1, 2, 2]]
    return torch.cat([points * points, products, points, torch.ones_like(points[:1])])


def _smooth_maximum(a: Tensor, b: Tensor, radius: float) -> Tensor:
    """max(a, b) with its crease rounded where |a - b| < radius; at most radius / 4 above the maximum."""
    overlap = (1 - (a - b).abs() / radius).clamp(min=0)
    return torch.maximum(a, b) + overlap.square() * (radius / 4)


class HeadSDF:
    """Signed distance (approximate away from the surface, exact to first order at it) of one person's head."""

    def __init__(self, parameters: HeadParameters) -> None:
        shapes = ellipsoids(parameters)
        groups = [e.group for e in shapes]
        self._forms = _quadratic_forms(shapes)
        self._sharpness = torch.tensor([-1 / BLEND[group] for group in groups])[:, None]  # [K,1]
        self._members = torch.tensor([[float(group == g) for g in groups] for group in Group])  # [groups,K]
        self._blend = torch.tensor([-BLEND[group] for group in Group])[:, None]  # [groups,1]
        self._curl = parameters.curl_phase if parameters.hair_style == "curly" else None

    def distances(self, points: Tensor) -> Tensor:
        """points [3,N] float32 -> distance to each material [4,N], rows in the order of Material."""
        return torch.cat([self._distances(chunk) for chunk in points.split(CHUNK, dim=1)], dim=1)

    def __call__(self, points: Tensor) -> Tensor:
        """points [3,N] float32 -> signed distance [N], negative inside."""
        return self.distances(points).amin(0)

    def surface(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """points [3,N] on the surface -> (material int64 [N], unit normals [3,N]: the gradient of the distance)."""
        materials, gradients = [], []
        for chunk in points.split(CHUNK, dim=1):
            with torch.enable_grad():
                leaf = chunk.detach().requires_grad_()
                distance, material = self._distances(leaf).min(0)
                gradients += torch.autograd.grad(distance.sum(), leaf)
            materials.append(material)
        return torch.cat(materials), torch.nn.functional.normalize(torch.cat(gradients, dim=1), dim=0)

    def _distances(self, points: Tensor) -> Tensor:
        squares = (self._forms @ _monomials(points)).clamp(min=SMALLEST_SQUARE)
        k0_squared, k1_squared = squares.chunk(2)
        each = (k0_squared - k0_squared.sqrt()) * k1_squared.rsqrt()  # k0 (k0 - 1) / k1, [K,N]
        nearness = (each * self._sharpness).clamp(-EXPONENT_LIMIT, EXPONENT_LIMIT).exp()
        unions = torch.log(self._members @ nearness) * self._blend
        skin, socket, eye, cap, opening, locks, clothes = unions.unbind()
        skin = _smooth_maximum(skin, -socket, SOCKET_CUT)
        hair = -_smooth_maximum(-_smooth_maximum(cap, -opening, CAP_CUT), -locks, LOCKS_JOINT)
        if self._curl is not None:
            waves = torch.sin(points * CURL_FREQUENCY + self._curl)
            hair = hair + waves.prod(0) * CURL_AMPLITUDE
        return torch.stack([skin, eye, hair, clothes])
