"""Who a synthetic head is: every number that distinguishes one person from another, and the pose they are seen from.

Lengths are world units (the camera is at radius 1, the head fills about +-0.08), angles rad, colours sRGB in [0, 1].
Head space is world space: x to the image's right at the frontal pose, y up, the face looks along +z.
Everything follows from (seed, index) alone, so that neither batching nor resolution can change a person or a pose.
"""

import colorsys
import math
from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]

YAW_MEAN = PITCH_MEAN = math.pi / 2  # frontal
YAW_STD, PITCH_STD = 0.3, 0.155  # FFHQ's pose distribution in CIPS-3D
PITCH_MARGIN = 1e-5  # the camera never stands exactly on the poles

HAIR_STYLES = ("short", "bob", "long", "bun", "ponytail", "curly")

# Endpoints and way marks from light to dark; a person lies somewhere on the polyline.
SKIN_TONES: tuple[Colour, ...] = (
    (0.98, 0.85, 0.77),
    (0.93, 0.75, 0.63),
    (0.86, 0.65, 0.50),
    (0.74, 0.52, 0.37),
    (0.56, 0.37, 0.26),
    (0.40, 0.26, 0.19),
)
HAIR_COLOURS: tuple[Colour, ...] = (
    (0.09, 0.07, 0.07),
    (0.20, 0.13, 0.10),
    (0.35, 0.21, 0.13),
    (0.47, 0.25, 0.13),
    (0.80, 0.61, 0.35),
    (0.91, 0.79, 0.57),
    (0.68, 0.29, 0.13),
    (0.68, 0.66, 0.65),
    (0.16, 0.42, 0.47),
    (0.72, 0.34, 0.49),
)
HAIR_WEIGHTS = (0.18, 0.18, 0.16, 0.1, 0.12, 0.07, 0.08, 0.06, 0.025, 0.025)
EYE_COLOURS: tuple[Colour, ...] = (
    (0.25, 0.14, 0.08),
    (0.40, 0.25, 0.12),
    (0.33, 0.42, 0.22),
    (0.24, 0.45, 0.62),
    (0.42, 0.50, 0.54),
)
EYE_WEIGHTS = (0.32, 0.24, 0.15, 0.19, 0.10)


@dataclass(frozen=True)
class HeadParameters:
    """One person: shape, hair, colours, clothes, background and light. Factors are relative to an average of 1."""

    head_width: float
    head_height: float
    jaw_width: float
    chin_length: float
    cheek: float
    nose_length: float
    nose_width: float
    eye_distance: float  # from the middle of the face to each eye, world units
    eye_size: float
    eye_open: float  # height of the visible eye over its width
    eye_tilt: float  # rad, outer corner up
    gaze: tuple[float, float]  # offset of the iris over its radius, (right, up)
    brow_height: float  # above the eye, world units
    brow_tilt: float
    brow_thickness: float
    mouth_width: float
    lip_fullness: float
    smile: float  # -1 ... 1
    ear_size: float
    beard: float  # 0 none ... 1 full
    hair_style: str
    hair_side: float  # +1 or -1: the side (of +x) that the fringe sweeps to
    hair_volume: float
    hair_length: float  # 0 ... 1, where the style has loose hair
    fringe: float  # 0 ... 1, how far the fringe reaches down the forehead
    curl_phase: float
    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    clothes: Colour
    collar: Colour
    stripes: float  # 0 plain ... 1 strong
    background: tuple[Colour, Colour]  # bottom, top
    light: tuple[float, float, float]  # unit vector towards the key light
    light_strength: float


@dataclass(frozen=True)
class HeadPose:
    """Camera angles, rad: origin (sin pitch cos yaw, cos pitch, sin pitch sin yaw); pi/2, pi/2 is frontal."""

    yaw: float
    pitch: float


def _between(colours: tuple[Colour, ...], where: float) -> np.ndarray:
    """The point at `where` in [0, 1] on the polyline through `colours`."""
    position = where * (len(colours) - 1)
    left = min(int(position), len(colours) - 2)
    low, high = np.array(colours[left]), np.array(colours[left + 1])
    return low + (high - low) * (position - left)


def _colour(rgb: np.ndarray) -> Colour:
    red, green, blue = np.clip(rgb, 0.02, 0.98).tolist()
    return (red, green, blue)


def _light(rng: np.random.Generator) -> tuple[float, float, float]:
    """A key light from the front, either side, mostly above."""
    azimuth, height = rng.uniform(-1.1, 1.1), rng.uniform(0.05, 0.8)
    return (
        math.sin(azimuth) * math.cos(height),
        math.sin(height),
        math.cos(azimuth) * math.cos(height),
    )


def _background(rng: np.random.Generator) -> tuple[Colour, Colour]:
    hue, saturation, value = rng.random(), rng.uniform(0.05, 0.5), rng.uniform(0.35, 0.95)
    top = np.array(colorsys.hsv_to_rgb(hue, saturation, value))
    bottom = top * rng.uniform(0.6, 1.0)
    return _colour(bottom), _colour(top)


def sample_pose(seed: int, index: int) -> HeadPose:
    """The pose of head `index`: yaw ~ N(pi/2, 0.3), pitch ~ N(pi/2, 0.155) clamped off the poles."""
    normal = np.random.default_rng((seed, index, 1)).standard_normal(2)
    pitch = PITCH_MEAN + PITCH_STD * float(normal[1])
    return HeadPose(
        yaw=YAW_MEAN + YAW_STD * float(normal[0]),
        pitch=min(max(pitch, PITCH_MARGIN), math.pi - PITCH_MARGIN),
    )


def sample_parameters(seed: int, index: int) -> HeadParameters:
    """The person with number `index` of the population `seed` (both >= 0)."""
    rng = np.random.default_rng((seed, index, 0))
    uniform = rng.uniform
    skin = _between(SKIN_TONES, rng.random()) * uniform(0.94, 1.04, 3) ** 0.5
    hair = np.array(HAIR_COLOURS[rng.choice(len(HAIR_COLOURS), p=HAIR_WEIGHTS)]) * uniform(0.8, 1.2)
    iris = np.array(EYE_COLOURS[rng.choice(len(EYE_COLOURS), p=EYE_WEIGHTS)]) * uniform(0.85, 1.2)
    redness = uniform(0.2, 0.7)
    lips = skin * (1 - redness) + np.array((0.75, 0.27, 0.30)) * (0.4 + 0.6 * skin) * redness
    clothes = np.array(colorsys.hsv_to_rgb(rng.random(), uniform(0.1, 0.85), uniform(0.15, 0.9)))
    collar = clothes * 0.75 if rng.random() < 0.6 else np.full(3, uniform(0.85, 0.96))
    return HeadParameters(
        head_width=uniform(0.92, 1.08),
        head_height=uniform(0.95, 1.06),
        jaw_width=uniform(0.8, 1.2),
        chin_length=uniform(0.9, 1.12),
        cheek=uniform(0.85, 1.15),
        nose_length=uniform(0.85, 1.15),
        nose_width=uniform(0.8, 1.3),
        eye_distance=uniform(0.0195, 0.0225),
        eye_size=uniform(0.9, 1.15),
        eye_open=uniform(0.42, 0.62),
        eye_tilt=uniform(-0.08, 0.16),
        gaze=(uniform(-0.25, 0.25), uniform(-0.12, 0.12)),
        brow_height=uniform(0.0125, 0.0165),
        brow_tilt=uniform(-0.12, 0.22),
        brow_thickness=uniform(0.0014, 0.0030),
        mouth_width=uniform(0.85, 1.2),
        lip_fullness=uniform(0.75, 1.35),
        smile=uniform(-0.25, 1.0),
        ear_size=uniform(0.85, 1.15),
        beard=uniform(0.35, 1.0) if rng.random() < 0.2 else 0.0,
        hair_style=HAIR_STYLES[rng.integers(len(HAIR_STYLES))],
        hair_side=1.0 if rng.random() < 0.5 else -1.0,
        hair_volume=uniform(0.95, 1.12),
        hair_length=rng.random(),
        fringe=rng.random(),
        curl_phase=uniform(0.0, 2 * math.pi),
        skin=_colour(skin),
        hair=_colour(hair),
        iris=_colour(iris),
        lips=_colour(lips),
        clothes=_colour(clothes),
        collar=_colour(collar),
        stripes=uniform(0.3, 0.9) if rng.random() < 0.3 else 0.0,
        background=_background(rng),
        light=_light(rng),
        light_strength=uniform(0.55, 0.9),
    )
