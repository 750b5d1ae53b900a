"""Configurations of pi-GAN's networks. The defaults are the authors' for CelebA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cips3d.models.generator_config import check_interval

SMALLEST_SIZE = 2  # side of the last feature map


@dataclass(frozen=True)
class PiganGeneratorConfig:
    """Widths, depths and ray interval of `PiganGenerator`."""

    model: Literal["pigan"] = "pigan"
    z_shape_dim: int = 256
    shape_style_dim: int = 256  # width of the mapping network, whose last linear layer gives frequencies and phases
    mapping_layers: int = 3  # before that one
    field_width: int = 256
    field_layers: int = 8  # sine layers shared by density and colour
    box_side: float = 0.24  # cube in world units that the field sees as [-1,1]^3
    near: float = 0.88  # ray interval, distance from the camera in world units
    far: float = 1.12

    def __post_init__(self) -> None:
        check_interval("PiganGeneratorConfig", self.near, self.far)

    @property
    def z_appearance_dim(self) -> int:
        """One code decides shape and appearance."""
        return 0

    @property
    def appearance_style_dim(self) -> int:
        return 0

    @property
    def most_layers(self) -> int:
        return max(self.mapping_layers, self.field_layers)


@dataclass(frozen=True)
class PiganDiscriminatorConfig:
    """Channels of the feature maps of side 2 * 2^k; the last is what images of the largest side become first."""

    model: Literal["pigan"] = "pigan"
    channels: tuple[int, ...] = (400, 400, 400, 400, 256, 128, 64, 32)
    coordinates: bool = True  # convolutions see where they are (CoordConv, arXiv 1807.03247); the authors' cats: no

    def __post_init__(self) -> None:
        if len(self.channels) < 2:
            raise ValueError(f"discriminator.channels must be at least two, got {self.channels}")

    @property
    def max_size(self) -> int:
        """Side of the largest image, in pixels."""
        return SMALLEST_SIZE * 2 ** (len(self.channels) - 1)

    @property
    def has_aux(self) -> bool:
        return False
