"""Configuration of VolumeGAN's generator. The defaults are the authors' for FFHQ at 256 x 256 pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cips3d.models.generator_config import check_interval

SMALLEST_VOLUME = 4  # side of the learned constant that the feature volume grows from

Corner = tuple[float, float, float]


@dataclass(frozen=True)
class VolumeganGeneratorConfig:
    """Widths, depths and extents of `VolumeganGenerator`; lengths in world units, the camera at distance 1."""

    model: Literal["volumegan"] = "volumegan"
    z_shape_dim: int = 512
    shape_style_dim: int = 512  # of w, which volume, field and neural renderer all take
    mapping_layers: int = 8
    style_mixing: float = 0.9  # probability that the renderer's layers of a training batch get another code's w
    volume_side: int = 32  # a power of two from 4 on
    volume_channels: int = 32  # descriptor of a point; 0: no volume, the field sees coordinates alone
    volume_base_channels: int = 256  # of the constant; each doubling of the side halves them
    volume_low: Corner = (-0.1886, -0.1671, -0.1956)  # corners of the volume along x, y, z
    volume_high: Corner = (0.1887, 0.1692, 0.1872)
    octaves: int = 10  # of the positional encoding
    field_width: int = 256
    field_layers: int = 4
    feature_dim: int = 512  # volume-rendered feature
    nerf_side: int = 32  # rays along a side of every picture that is not smaller
    rgb_head: bool = False  # the raw picture is a linear map of the feature; else the feature's first three numbers
    renderer_channels: tuple[int, ...] = (512, 256, 128)  # of pictures of side 2, 4, 8 ... times nerf_side
    renderer_layers: int = 2  # for each of these sides
    colour_gain: float = 1.0  # of each side's initial map to colours; 0: a side begins with the picture before it
    box_side: float = 0.3  # cube that meshes are taken from
    near: float = 0.8  # ray interval, distance from the camera
    far: float = 1.2

    def __post_init__(self) -> None:
        check_interval("VolumeganGeneratorConfig", self.near, self.far)
        if self.volume_side < SMALLEST_VOLUME or self.volume_side & (self.volume_side - 1):
            raise ValueError(
                f"VolumeganGeneratorConfig: volume_side must be a power of two from {SMALLEST_VOLUME} on, "
                f"got {self.volume_side}"
            )
        if any(low >= high for low, high in zip(self.volume_low, self.volume_high, strict=True)):
            raise ValueError(
                "VolumeganGeneratorConfig: volume_low must be below volume_high along every axis, "
                f"got {self.volume_low} and {self.volume_high}"
            )
        if self.renderer_layers < 1 or not 0 <= self.style_mixing <= 1:
            raise ValueError(
                "VolumeganGeneratorConfig: wanted renderer_layers >= 1 and style_mixing in [0,1], "
                f"got {self.renderer_layers} and {self.style_mixing}"
            )

    @property
    def z_appearance_dim(self) -> int:
        """One code decides shape and appearance."""
        return 0

    @property
    def appearance_style_dim(self) -> int:
        """The neural renderer takes w, too."""
        return self.shape_style_dim

    @property
    def painter_layers(self) -> int:
        """How many w the neural renderer takes: of each layer, and of the last map to colours."""
        sides = len(self.renderer_channels)
        return sides * self.renderer_layers + 1 if sides else 0

    @property
    def max_side(self) -> int:
        """Side of the largest picture, in pixels."""
        return self.nerf_side * 2 ** len(self.renderer_channels)

    @property
    def most_layers(self) -> int:
        return max(self.mapping_layers, self.field_layers, len(self.renderer_channels), self.renderer_layers)
