"""The FiLM-sine layer: `cips3d_ext.film_sine` with its weight and affine maps from style codes to gamma and beta."""

import math

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from ..ops._checks import check_choice
from ..ops._registry import IMPLS
from ..ops.film_sine import film_sine
from ._styles import fold, rows_per_style

_SINE_INIT_DIVISOR = 25.0  # SIREN's initialisation for sines of frequency about 25 (pi-GAN, CIPS-3D)
_STYLE_INIT_SCALE = 0.25  # layers start close to no modulation (pi-GAN, CIPS-3D)


class FiLMSine(nn.Module):
    """sin(g * (x weight^T + bias) + h), g = gamma_scale * gamma(w) + gamma_offset, h = beta_scale * beta(w).

    Parameters: weight [O,I], bias [O]; gamma and beta, linear maps from style codes to O. The defaults are CIPS-3D's
    (arXiv 2110.09788), frequencies of 15 gamma + 30; StyleSDF has beta_scale=0.25. Initialised as there: the weight
    uniform in +-sqrt(6 / I) / 25, gamma and beta at a quarter of torch's default weights.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        style_dim: int,
        *,
        gamma_scale: float = 15.0,
        gamma_offset: float = 30.0,
        beta_scale: float = 1.0,
        impl: str = "auto",
    ) -> None:
        super().__init__()
        check_choice("FiLMSine", "impl", impl, IMPLS)
        self.in_features, self.out_features, self.style_dim = in_features, out_features, style_dim
        self.gamma_scale, self.gamma_offset, self.beta_scale = gamma_scale, gamma_offset, beta_scale
        self.impl = impl
        self.weight = Parameter(torch.empty(out_features, in_features))
        self.bias = Parameter(torch.empty(out_features))
        self.gamma = nn.Linear(style_dim, out_features)
        self.beta = nn.Linear(style_dim, out_features)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all parameters afresh."""
        bound = math.sqrt(6 / self.in_features) / _SINE_INIT_DIVISOR
        nn.init.uniform_(self.weight, -bound, bound)
        bias_bound = 1 / math.sqrt(self.in_features)  # as nn.Linear
        nn.init.uniform_(self.bias, -bias_bound, bias_bound)
        for affine in (self.gamma, self.beta):
            affine.reset_parameters()
            with torch.no_grad():
                affine.weight.mul_(_STYLE_INIT_SCALE)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x [B,*,I], style codes w [B',style_dim] -> [B,*,O].

        B is a multiple of B', each code serves B / B' consecutive rows of x.
        """
        rows = rows_per_style("FiLMSine", x, w, self.style_dim)
        y = self.apply_film(x if rows == 1 else fold(x, rows), self.gamma(w), self.beta(w))
        return y if rows == 1 else y.view(*x.shape[:-1], self.out_features)

    def apply_film(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """x [B,*,I] with gamma(w) and beta(w) [B,O] given, where one style serves many calls -> [B,*,O]."""
        return film_sine(
            x,
            self.weight,
            self.bias,
            gamma,
            beta,
            gamma_scale=self.gamma_scale,
            gamma_offset=self.gamma_offset,
            beta_scale=self.beta_scale,
            impl=self.impl,
        )

    def extra_repr(self) -> str:
        names = ("gamma_scale", "gamma_offset", "beta_scale", "impl")
        options = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{self.in_features}, {self.out_features}, style_dim={self.style_dim}, {options}"
