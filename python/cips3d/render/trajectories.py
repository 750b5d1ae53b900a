"""Camera paths of videos: the number of a frame in, a camera out. All close: after the last frame comes the first.

`yaw`, `circle` and their kin keep to the unit sphere and look at the origin; the translations shift the camera along
its own axes and do not turn it, and the roll turns it about its own line of sight. The kinds and the order of their
parts are those of the official web demo (which sweeps the yaw once, from one side to the other).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from cips3d.render.rays import Camera

FAR_FOV = 20 / 12  # near-far: the field of view grows by this factor and comes back (official: from 12 to 20 degrees)
SHIFT = 0.5  # translations, in halves of the picture's width at the origin: the head stays in view
TRANSLATION = 0.25  # share of a path for each of the two translations before the rest


@dataclass(frozen=True)
class Swing:
    """What a path moves about: the middle pose and how far to either side of it, in rad; field of view in degrees."""

    yaw_mean: float
    pitch_mean: float
    yaw: float
    pitch: float
    fov_deg: float

    def camera(self, yaw: float, pitch: float, fov_factor: float = 1.0) -> Camera:
        """The camera turned by `yaw` and `pitch` half-axes, each in [-1,1], away from the middle."""
        angles = (self.yaw_mean + yaw * self.yaw, self.pitch_mean + pitch * self.pitch)
        return Camera.from_angles(*angles, fov_deg=fov_factor * self.fov_deg)


def camera_at(name: str, swing: Swing, frame: int, frames: int) -> Camera:
    """The camera, a batch of one, of `frame` of 0 .. frames - 1 on the trajectory `name`."""
    if name not in TRAJECTORIES or not 0 <= frame < frames:
        raise ValueError(
            f"camera_at: wanted a trajectory ({', '.join(TRAJECTORIES)}) and a frame in 0 .. {frames - 1}, "
            f"got {name!r} and {frame}"
        )
    return TRAJECTORIES[name](swing, frame / frames)


def _yaw(swing: Swing, time: float) -> Camera:
    """From the middle to one side, to the other, and back."""
    return swing.camera(_wave(time), 0.0)


def _circle(swing: Swing, time: float) -> Camera:
    return swing.camera(_wave(time), math.cos(2 * math.pi * time))


def _circle_near_far(swing: Swing, time: float) -> Camera:
    """Two circles: the field of view grows during the first, as if the camera moved off, and shrinks again."""
    growth = (1 - math.cos(2 * math.pi * time)) / 2
    return swing.camera(_wave(2 * time), math.cos(4 * math.pi * time), 1 + growth * (FAR_FOV - 1))


def _translate_circle_near_far(swing: Swing, time: float) -> Camera:
    """To the right, left and back; up, down and back; then the circles, all from the circles' first pose."""
    rest = 1 - 2 * TRANSLATION
    if time < 1 - rest:
        return _translated(_circle_near_far(swing, 0.0), time / TRANSLATION)
    return _circle_near_far(swing, (time - (1 - rest)) / rest)


def _translate_rotate(swing: Swing, time: float) -> Camera:
    """To the right, left and back; up, down and back; then once around the line of sight; all from the middle pose."""
    middle, rest = swing.camera(0.0, 0.0), 1 - 2 * TRANSLATION
    if time < 1 - rest:
        return _translated(middle, time / TRANSLATION)
    angle = 2 * math.pi * (time - (1 - rest)) / rest
    right, up, backward, position = middle.cam2world[:, :3].unbind(-1)
    rolled = math.cos(angle) * up - math.sin(angle) * right
    return Camera.look_at(position, -backward, middle.fov_deg, rolled)


def _translated(camera: Camera, time: float) -> Camera:
    """Shifted along its right axis while `time` is in [0,1), along its up axis while in [1,2); there and back each."""
    along_up, share = divmod(time, 1)
    shift = SHIFT * math.tan(math.radians(camera.fov_deg) / 2) * _wave(share)
    cam2world = camera.cam2world.clone()
    cam2world[:, :3, 3] += shift * cam2world[:, :3, int(along_up)]
    return Camera(cam2world, torch.zeros_like(camera.pitch_yaw), camera.fov_deg)


def _wave(time: float) -> float:
    return math.sin(2 * math.pi * time)


TRAJECTORIES: dict[str, Callable[[Swing, float], Camera]] = {
    "yaw": _yaw,
    "circle": _circle,
    "circle-near-far": _circle_near_far,
    "translate-circle-near-far": _translate_circle_near_far,
    "translate-rotate": _translate_rotate,
}
