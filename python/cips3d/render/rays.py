"""First stage: camera poses and the rays through an image's pixels.

Convention of the whole project: y is up, a camera looks along its own -z with x to the right; poses of `from_angles`
and `sample` lie on the unit sphere around the origin and look at it. yaw = pitch = pi/2 is frontal. Pixels are sampled
at their corners: the outermost rays pass through the edges of the field of view (pi-GAN, CIPS-3D).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from numbers import Integral, Real
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

POLE_MARGIN = 1e-5  # rad; at the poles "up" and the view direction would be parallel
TRUNCATION_TRIES, TRUNCATION_WIDTH = 4, 2.0  # truncated_gaussian: the first of 4 normals within 2 standard deviations
DISTRIBUTIONS = ("gaussian", "normal", "uniform", "hybrid", "truncated_gaussian", "spherical_uniform", "mean")


class Rays(NamedTuple):
    """Origins and unit directions, [B,R,3] each, in world units; R = H * W in row-major order from the top left."""

    origins: Tensor
    directions: Tensor


@dataclass(frozen=True, eq=False)
class Camera:
    """A batch of B pinhole cameras.

    cam2world [B,4,4] maps camera to world coordinates; pitch_yaw [B,2] in rad (zeros for `look_at`, whose pose need not
    have such angles); fov_deg is the full field of view in degrees, one for the batch.
    """

    cam2world: Tensor
    pitch_yaw: Tensor
    fov_deg: float = 12.0

    def __post_init__(self) -> None:
        if not isinstance(self.fov_deg, Real) or not 0 < self.fov_deg < 180:
            raise ValueError(f"Camera: fov_deg must be a number between 0 and 180 degrees, got {self.fov_deg}")

    @classmethod
    def from_angles(cls, yaw: Tensor | float, pitch: Tensor | float, fov_deg: float = 12.0) -> Camera:
        """Cameras on the unit sphere looking at its centre; yaw and pitch in rad, [B] or numbers (then B = 1).

        Position = (sin pitch cos yaw, cos pitch, sin pitch sin yaw), pitch kept off the poles by `POLE_MARGIN`.
        A number beside a tensor takes its dtype and device.
        """
        theta, phi = _angles(yaw=yaw, pitch=pitch)
        phi = phi.clamp(POLE_MARGIN, math.pi - POLE_MARGIN)
        position = torch.stack([phi.sin() * theta.cos(), phi.cos(), phi.sin() * theta.sin()], -1)
        return cls(_cam2world(position, -position, None), torch.stack([phi, theta], -1), fov_deg)

    @classmethod
    def look_at(cls, position: Tensor, direction: Tensor, fov_deg: float = 12.0, up: Tensor | None = None) -> Camera:
        """Cameras at `position` [B,3] looking along `direction` [B,3]: a viewing direction, not a target.

        `up` [3] or [B,3] is (0, 1, 0) by default and must not be parallel to the direction. Differentiable.
        """
        for name, value in (("position", position), ("direction", direction)):
            if value.ndim != 2 or value.shape[-1] != 3:
                raise ValueError(f"Camera.look_at: {name} must be [B,3], got {list(value.shape)}")
        position, direction = torch.broadcast_tensors(position, direction)
        return cls(_cam2world(position, direction, up), position.new_zeros(len(position), 2), fov_deg)

    @classmethod
    def sample(
        cls,
        n: int,
        yaw_mean: float = math.pi / 2,
        yaw_std: float = 0.3,
        pitch_mean: float = math.pi / 2,
        pitch_std: float = 0.155,
        distribution: str = "gaussian",
        generator: torch.Generator | None = None,
        fov_deg: float = 12.0,
        dtype: torch.dtype = torch.float32,
    ) -> Camera:
        """n random poses, yaw drawn before pitch; means and spreads in rad (defaults: FFHQ).

        gaussian (or normal); uniform: within one spread of the mean; hybrid: one coin a call, uniform of twice that
        width or gaussian; truncated_gaussian: within two spreads; spherical_uniform: uniform in yaw and in the sphere's
        area; mean: no spread. On the generator's device (CPU without one).
        """
        if distribution not in DISTRIBUTIONS:
            raise ValueError(
                f"Camera.sample: distribution must be one of {', '.join(DISTRIBUTIONS)}, got {distribution!r}"
            )
        draw = _AngleDraws(n, generator, dtype)
        if distribution == "hybrid":
            if draw.uniform(1).item() < 0.5:
                distribution, yaw_std, pitch_std = "uniform", 2 * yaw_std, 2 * pitch_std
            else:
                distribution = "gaussian"
        yaw = yaw_mean + yaw_std * draw.unit(distribution)
        if distribution == "spherical_uniform":
            height = pitch_mean / math.pi + pitch_std / math.pi * draw.unit(distribution)
            pitch = torch.arccos(1 - 2 * height.clamp(POLE_MARGIN, 1 - POLE_MARGIN))
        else:
            pitch = pitch_mean + pitch_std * draw.unit(distribution)
        return cls.from_angles(yaw, pitch, fov_deg)

    def __len__(self) -> int:
        return len(self.cam2world)

    def __getitem__(self, index: int | slice | Tensor) -> Camera:
        """The chosen cameras, always as a batch (an int gives a batch of one)."""
        if isinstance(index, int):
            index = slice(index, index + 1 or None)
        return Camera(self.cam2world[index], self.pitch_yaw[index], self.fov_deg)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Camera:
        return Camera(self.cam2world.to(device, dtype), self.pitch_yaw.to(device, dtype), self.fov_deg)


def camera_rays(camera: Camera, resolution: int) -> Rays:
    """Rays [B,R,3] through the R = resolution^2 pixels (at least 2 x 2) of each camera, in the camera's dtype."""
    if not isinstance(resolution, Integral) or resolution < 2:
        wanted = "one whole number (pictures are square), at least 2 (pixels lie on the edges)"
        raise ValueError(f"camera_rays: resolution must be {wanted}, got {resolution}")
    pose = camera.cam2world
    side = torch.linspace(-1, 1, resolution, dtype=pose.dtype, device=pose.device)
    y, x = torch.meshgrid(-side, side, indexing="ij")
    z = torch.full_like(x, -1 / math.tan(math.radians(camera.fov_deg) / 2))
    local = normalize(torch.stack([x, y, z], -1).reshape(-1, 3), dim=-1)
    directions = local @ pose[:, :3, :3].mT
    return Rays(pose[:, None, :3, 3].expand_as(directions), directions)


def _angles(**angles: Tensor | float) -> tuple[Tensor, ...]:
    """All angles as [B], of the dtype and device of the floating-point tensors among them, or torch's defaults."""
    for name, angle in angles.items():
        if isinstance(angle, Tensor) and angle.ndim > 1:
            raise ValueError(f"Camera: {name} must be a number or [B], got {list(angle.shape)}")
    given = [angle for angle in angles.values() if isinstance(angle, Tensor) and angle.is_floating_point()]
    dtype = (
        reduce(torch.promote_types, (angle.dtype for angle in given), given[0].dtype)
        if given
        else torch.get_default_dtype()
    )
    device = given[0].device if given else None
    vectors = [torch.atleast_1d(torch.as_tensor(angle, dtype=dtype, device=device)) for angle in angles.values()]
    return torch.broadcast_tensors(*vectors)


def _cam2world(position: Tensor, direction: Tensor, up: Tensor | None) -> Tensor:
    """[B,4,4] whose rotation has the columns right, up and backward."""
    forward = normalize(direction, dim=-1)
    if up is None:
        up = torch.tensor([0.0, 1.0, 0.0])
    up = up.to(forward).expand_as(forward)
    left = normalize(torch.linalg.cross(up, forward), dim=-1)
    true_up = normalize(torch.linalg.cross(forward, left), dim=-1)
    top = torch.stack([-left, true_up, -forward, position], -1)
    bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(top), 1, 4)
    return torch.cat([top, bottom], 1)


@dataclass
class _AngleDraws:
    """Draws of n angles in units of their spread, around 0."""

    n: int
    generator: torch.Generator | None
    dtype: torch.dtype

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, dtype=self.dtype, device=self._device)

    def unit(self, distribution: str) -> Tensor:
        if distribution == "mean":
            return torch.zeros(self.n, dtype=self.dtype, device=self._device)
        if distribution in ("uniform", "spherical_uniform"):
            return 2 * self.uniform(self.n) - 1
        if distribution == "truncated_gaussian":
            tries = self._normal(self.n, TRUNCATION_TRIES)
            first_inside = (tries.abs() < TRUNCATION_WIDTH).int().argmax(-1, keepdim=True)
            return tries.gather(-1, first_inside).squeeze(-1)
        return self._normal(self.n)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=self.dtype, device=self._device)

    @property
    def _device(self) -> torch.device | str:
        return "cpu" if self.generator is None else self.generator.device
