"""The FiLM-SIREN fields that are measured, and what one point of them costs."""

from __future__ import annotations

from typing import NamedTuple

COORDINATES = 3  # of a point and of a direction


class FieldShape(NamedTuple):
    widths: tuple[int, ...]  # of the trunk's sine layers
    colour_width: int
    features: int
    view_directions: bool

    def maps(self) -> list[tuple[int, int]]:
        """Weight shapes [O,I]: trunk, density, colour, features."""
        trunk = list(zip(self.widths, (COORDINATES, *self.widths[:-1]), strict=True))
        width = self.widths[-1]
        colour = (self.colour_width, width + COORDINATES * self.view_directions)
        return [*trunk, (1, width), colour, (self.features, self.colour_width)]

    @property
    def flops(self) -> int:
        """Of all products, forward."""
        return 2 * sum(O * I for O, I in self.maps())

    @property
    def sines(self) -> int:
        return sum(self.widths) + self.colour_width

    @property
    def outputs(self) -> int:
        """Features and density."""
        return self.features + 1


FIELDS = {
    "cips3d": FieldShape((128, 128), 64, 32, view_directions=False),
    "pigan": FieldShape((256,) * 8, 256, 3, view_directions=True),
}
