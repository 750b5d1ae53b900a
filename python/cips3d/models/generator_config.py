"""Configuration of the generator. The defaults are the released model's; presets/generator/*.yaml hold the variants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class GeneratorConfig:
    """Widths, depths and ray interval of `Generator`. Blocks of the INR count from 0."""

    z_shape_dim: int = 256
    shape_style_dim: int = 128  # also the width of the shape mapping network
    shape_mapping_layers: int = 4
    z_appearance_dim: int = 512
    appearance_style_dim: int = 512  # also the width of the appearance mapping network
    appearance_mapping_layers: int = 8
    field_width: int = 128
    field_layers: int = 2  # sine layers shared by density and features
    positional_encoding: Literal["learnable", "fixed"] = "learnable"  # the field's first layer (see `make_field`)
    colour_width: int = 64  # the sine layer of the features alone
    view_directions: bool = False  # which also takes the rays' directions; they let colours depend on the view
    feature_dim: int = 32  # volume-rendered feature, input of the INR
    inr_width: int = 512
    inr_blocks: int = 9
    rgb_blocks: tuple[int, ...] = (3, 4, 5, 6, 7, 8)  # blocks with a to-RGB head
    skip_blocks: tuple[int, ...] = (4, 5, 6, 7, 8)  # blocks with a residual skip
    box_side: float = 0.24  # cube in world units that the field sees as [-1,1]^3: as long as the ray interval
    near: float = 0.88  # ray interval, distance from the camera in world units
    far: float = 1.12
    model: Literal["cips3d"] = "cips3d"

    def __post_init__(self) -> None:
        for name in ("rgb_blocks", "skip_blocks"):
            blocks = getattr(self, name)
            if len(set(blocks)) != len(blocks) or any(not 0 <= block < self.inr_blocks for block in blocks):
                raise ValueError(
                    f"GeneratorConfig: {name} must be distinct blocks in 0 .. {self.inr_blocks - 1}, got {blocks}"
                )
        if not self.rgb_blocks:
            raise ValueError("GeneratorConfig: rgb_blocks must name at least one block, got none")
        if 0 in self.skip_blocks and self.feature_dim != self.inr_width:
            raise ValueError(
                f"GeneratorConfig: block 0 cannot be in skip_blocks, its input has feature_dim = {self.feature_dim} "
                f"channels and its output inr_width = {self.inr_width}"
            )
        check_interval("GeneratorConfig", self.near, self.far)

    @property
    def most_layers(self) -> int:
        """The largest number of layers of one kind, each with tensors of its own."""
        return max(self.shape_mapping_layers, self.appearance_mapping_layers, self.field_layers, self.inr_blocks)


def check_interval(name: str, near: float, far: float) -> None:
    """Raises ValueError unless rays between these depths have a length."""
    if not 0 <= near < far:
        raise ValueError(f"{name}: wanted 0 <= near < far, got near={near}, far={far}")
