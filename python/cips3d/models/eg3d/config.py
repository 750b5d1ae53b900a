"""Configurations of EG3D's networks. The defaults are the authors' for FFHQ at 512 pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cips3d.models.discriminator import SMALLEST_SIZE


@dataclass(frozen=True)
class Eg3dGeneratorConfig:
    """Widths, sides and rays of `Eg3dGenerator`. Lengths are the authors' unit, of which the camera's distance is
    `camera_radius`; the properties near, far and box_side are the same in this package's, the camera at distance 1.
    """

    model: Literal["eg3d"] = "eg3d"
    z_shape_dim: int = 512
    shape_style_dim: int = 512
    mapping_layers: int = 2
    pose_conditioned: bool = True  # the mapping sees the camera's pose
    swap_probability: float = 0.5  # in training, another image's pose; 1 at first, this after
    swap_images: int = 1_000_000  # so many training images
    fov_deg: float = 12.0  # of the frontal camera that codes are mapped with where no pose is given
    plane_side: int = 256
    plane_channels: int = 32
    channel_base: int = 32768  # channels of the backbone at side s: channel_base / s,
    channel_max: int = 512  # and no more than these
    features: int = 32  # volume-rendered; the first three are the raw image
    decoder_lr_multiplier: float = 1.0
    resolution: int = 512  # of the image, the only one that can be drawn
    raw_side: int = 64  # of the raw image; in training it grows to it
    raw_side_start: int = 64  # from this one, over
    raw_side_images: int = 1_000_000  # so many training images
    sr_start: int = 128  # side that the features are brought to before the super-resolution
    sr_channels: tuple[int, int] = (256, 128)
    sr_clamp: float | None = 256.0  # of the super-resolution's activations (the authors': for float16)
    camera_radius: float = 2.7
    ray_start: float = 2.25
    ray_end: float = 3.3
    box_warp: float = 1.0  # side of the cube around 0 that the planes span

    def __post_init__(self) -> None:
        if not 0 <= self.ray_start < self.ray_end or min(self.camera_radius, self.box_warp) <= 0:
            raise ValueError(
                "Eg3dGeneratorConfig: wanted 0 <= ray_start < ray_end, camera_radius > 0 and box_warp > 0, got "
                f"{self.ray_start}, {self.ray_end}, {self.camera_radius} and {self.box_warp}"
            )
        if not 0 <= self.swap_probability <= 1:
            raise ValueError(f"Eg3dGeneratorConfig: swap_probability must be in [0,1], got {self.swap_probability}")

    @property
    def z_appearance_dim(self) -> int:
        """One code decides shape and appearance."""
        return 0

    @property
    def appearance_style_dim(self) -> int:
        return 0

    @property
    def near(self) -> float:
        return self.ray_start / self.camera_radius

    @property
    def far(self) -> float:
        return self.ray_end / self.camera_radius

    @property
    def box_side(self) -> float:
        return self.box_warp / self.camera_radius

    @property
    def most_layers(self) -> int:
        """Of the backbone's convolutions: one at side 4, two at every other one."""
        return 2 * (self.plane_side // SMALLEST_SIZE).bit_length() - 1


@dataclass(frozen=True)
class Eg3dDiscriminatorConfig:
    """Channels of feature maps of side 4 * 2^k, and what the discriminator is told besides the image."""

    model: Literal["eg3d"] = "eg3d"
    channels: tuple[int, ...] = (512, 512, 512, 512, 512, 256, 128, 64)
    dual: bool = True  # judges the raw image, brought to the image's side, together with the image
    pose_conditioned: bool = True
    mapping_layers: int = 8  # of the pose's network
    stddev_group: int = 4
    blur_sigma: float = 10.0  # in pixels, of a blur of images and real raw images; falls to 0 over
    blur_images: int = 200_000  # so many training images

    @property
    def max_size(self) -> int:
        """Side of the images, in pixels."""
        return SMALLEST_SIZE * 2 ** (len(self.channels) - 1)

    @property
    def has_aux(self) -> bool:
        """The raw image has no discriminator of its own."""
        return False
