"""The ModFC layer: `cips3d_ext.modfc` with its weight and the affine map from style codes to modulations."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from ..ops._checks import check_choice
from ..ops._registry import IMPLS
from ..ops.modfc import ACTIVATIONS, ModfcRgb, modfc, modfc_with_rgb
from ._styles import fold, rows_per_style

# The negative slope of the leaky ReLUs around the layer, whose gain the initialisation compensates (CIPS-3D).
_INIT_SLOPE = 0.2


class ModFC(nn.Module):
    """y = clamp(gain * act(d * (x W'^T) + noise + bias)), W' = weight * (modulation(w) + style_offset).

    Parameters: weight [O,I]; modulation, a linear map from style codes to I; bias [O] with `bias=True`. The arguments
    after `bias` are those of `cips3d_ext.modfc`. Initialised as CIPS-3D's `SinStyleMod` (arXiv 2110.09788): normal, of
    standard deviation sqrt(2 / 1.04 / O) for the weight and sqrt(2 / 1.04 / style_dim) for the modulation's.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        style_dim: int,
        *,
        bias: bool = False,
        demodulate: bool = True,
        style_offset: float = 1.0,
        activation: str = "linear",
        alpha: float = 0.2,
        gain: float = 1.0,
        clamp: float | None = None,
        eps: float = 1e-8,
        impl: str = "auto",
    ) -> None:
        super().__init__()
        check_choice("ModFC", "activation", activation, ACTIVATIONS)
        check_choice("ModFC", "impl", impl, IMPLS)
        self.in_features, self.out_features, self.style_dim = in_features, out_features, style_dim
        self.demodulate, self.style_offset, self.eps = demodulate, style_offset, eps
        self.activation, self.alpha, self.gain, self.clamp = activation, alpha, gain, clamp
        self.impl = impl
        self.weight = Parameter(torch.empty(out_features, in_features))
        self.bias = Parameter(torch.empty(out_features)) if bias else None
        self.modulation = nn.Linear(style_dim, in_features)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all parameters afresh. With demodulation the weight's scale only sets the relative size of a step."""
        nn.init.kaiming_normal_(self.weight, a=_INIT_SLOPE, mode="fan_out")
        self.modulation.reset_parameters()
        nn.init.kaiming_normal_(self.modulation.weight, a=_INIT_SLOPE)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """x [B,N,I], style codes w [B',style_dim], noise broadcastable to y -> y [B,N,O].

        B is a multiple of B', each code serves B / B' consecutive rows of x.
        """
        rows = rows_per_style("ModFC", x, w, self.style_dim)
        if noise is not None and rows > 1:
            noise = fold(noise.expand(*x.shape[:-1], self.out_features), rows)
        y = self.apply_style(x if rows == 1 else fold(x, rows), self.modulation(w), noise)
        return y if rows == 1 else y.view(*x.shape[:-1], self.out_features)

    def apply_style(self, x: Tensor, style: Tensor, noise: Tensor | None = None, skip: Tensor | None = None) -> Tensor:
        """x [B,N,I] with the style modulation(w) [B,I] given, where one style serves many calls, (+ skip [B,N,O])
        -> [B,N,O]."""
        return modfc(x, self.weight, style, self.bias, noise, skip=skip, **self._options())

    def apply_style_with_rgb(
        self, x: Tensor, style: Tensor, to_rgb: Tensor, noise: Tensor | None = None, skip: Tensor | None = None
    ) -> ModfcRgb:
        """apply_style and the output's colours y to_rgb^T, to_rgb [K,O] -> y [B,N,O], rgb [B,N,K]."""
        return modfc_with_rgb(x, self.weight, style, to_rgb, self.bias, noise, skip=skip, **self._options())

    def _options(self) -> dict[str, Any]:
        names = ("style_offset", "demodulate", "eps", "activation", "alpha", "gain", "clamp", "impl")
        return {name: getattr(self, name) for name in names}

    def extra_repr(self) -> str:
        names = ("demodulate", "style_offset", "activation", "alpha", "gain", "clamp", "eps", "impl")
        options = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        sizes = f"{self.in_features}, {self.out_features}, style_dim={self.style_dim}"
        return f"{sizes}, bias={self.bias is not None}, {options}"
