"""The whole field: `cips3d_ext.siren_field` with its layers and their affine maps from style codes."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from ..ops._checks import check_choice
from ..ops._registry import IMPLS
from ..ops.siren_field import SirenFieldOutput, siren_field
from ._styles import fold, rows_per_style
from .film_sine import FiLMSine

_COORDINATES = 3
_INIT_SLOPE = 0.2  # of the leaky ReLUs that take the features (CIPS-3D)


class Films(NamedTuple):
    """The modulation of every sine layer, colour last, [B,O] each: computed once for codes that serve many calls."""

    gamma: list[Tensor]
    beta: list[Tensor]


class SirenField(nn.Module):
    """Density and features of points: sine layers of `widths`, linear maps, one more sine layer before the features.

    Submodules: layers (`FiLMSine`), density (`nn.Linear`), colour (`FiLMSine`, None with colour_width=0), feature
    (`nn.Linear`, None with features=0). With view_directions the colour layer takes [direction, x], as pi-GAN's (arXiv
    2012.00926), without it x alone, as CIPS-3D's (arXiv 2110.09788), whose frequencies 15 gamma + 30 are the defaults.
    point_scale multiplies the points: 2 / side of the box that shall become [-1,1]. Initialised as CIPS-3D's.
    """

    def __init__(
        self,
        style_dim: int,
        widths: Sequence[int],
        colour_width: int = 0,
        features: int = 0,
        *,
        view_directions: bool = False,
        point_scale: float = 1.0,
        gamma_scale: float = 15.0,
        gamma_offset: float = 30.0,
        beta_scale: float = 1.0,
        impl: str = "auto",
    ) -> None:
        super().__init__()
        check_choice("SirenField", "impl", impl, IMPLS)
        if colour_width and not features or view_directions and not colour_width:
            raise ValueError(
                "SirenField: a colour layer needs features and directions need a colour layer, got "
                f"colour_width={colour_width}, features={features}, view_directions={view_directions}"
            )
        self.style_dim, self.view_directions, self.impl = style_dim, view_directions, impl
        self.point_scale = point_scale
        self.scales = {"gamma_scale": gamma_scale, "gamma_offset": gamma_offset, "beta_scale": beta_scale}

        def sine(inputs: int, outputs: int) -> FiLMSine:
            return FiLMSine(inputs, outputs, style_dim, impl=impl, **self.scales)

        inputs = [_COORDINATES, *widths[:-1]]
        self.layers = nn.ModuleList(sine(i, o) for i, o in zip(inputs, widths, strict=True))
        self.density = nn.Linear(widths[-1], 1)
        self.colour = sine(widths[-1] + _COORDINATES * view_directions, colour_width) if colour_width else None
        self.feature = nn.Linear(colour_width or widths[-1], features) if features else None
        if self.feature is not None:
            nn.init.kaiming_normal_(self.feature.weight, a=_INIT_SLOPE)

    def films(self, w: Tensor) -> Films:
        """The modulation by style codes w [B,style_dim]."""
        sines = [cast(FiLMSine, layer) for layer in [*self.layers, *([self.colour] if self.colour is not None else [])]]
        return Films([layer.gamma(w) for layer in sines], [layer.beta(w) for layer in sines])

    def forward(self, points: Tensor, w: Tensor | Films, directions: Tensor | None = None) -> SirenFieldOutput:
        """points [B,*,3] -> features [B,*,C] (None without) and density [B,*], before any activation.

        w: style codes [B',style_dim], each for B / B' consecutive rows of points, or the films of B codes. directions
        [B,R,3]: each for N / R consecutive points of its row; given if and only if view_directions.
        """
        if (directions is not None) != self.view_directions:
            raise ValueError(
                f"SirenField: view_directions={self.view_directions}, so directions must be "
                f"{'[B,R,3], got None' if self.view_directions else 'None, got a tensor'}"
            )
        if isinstance(w, Films):
            return siren_field(points, **self.arguments(), **w._asdict(), directions=directions)
        rows = rows_per_style("SirenField", points, w, self.style_dim)
        folded = points if rows == 1 else fold(points, rows)
        rays = directions if directions is None or rows == 1 else fold(directions, rows)
        out = siren_field(folded, **self.arguments(), **self.films(w)._asdict(), directions=rays)
        if rows == 1:
            return out
        shape = points.shape[:-1]
        features = None if out.features is None else out.features.reshape(*shape, out.features.shape[-1])
        return SirenFieldOutput(features, out.density.reshape(shape))

    def arguments(self) -> dict[str, Any]:
        """What describes the field, besides its films, to `cips3d_ext.siren_field` and `cips3d_ext.render_rays`."""
        return {
            "layers": [_linear_map(cast(FiLMSine, layer)) for layer in self.layers],
            "density": _linear_map(self.density),
            "colour": None if self.colour is None else _linear_map(self.colour),
            "feature": None if self.feature is None else _linear_map(self.feature),
            "point_scale": self.point_scale,
            **self.scales,
            "impl": self.impl,
        }

    def extra_repr(self) -> str:
        return f"view_directions={self.view_directions}, point_scale={self.point_scale}, impl={self.impl!r}"


def _linear_map(layer: FiLMSine | nn.Linear) -> tuple[Tensor, Tensor]:
    return layer.weight, layer.bias
