"""The modulated linear map z = d * (x (W m)^T) [B,N,O] and its gradients, in the form that moves less memory.

x [B,N,I], weight W [O,I], modulation m [B,I]; demodulation d [B,O] = rsqrt(q + eps) with q = m^2 (W^2)^T, so that
dd/dq = -d^3 / 2; d is None, for 1, without demodulation. linear: x (W m)^T, if a forward pass kept it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ._products import linear_map, product, weight_gradient

Gradients = tuple[Callable[[], Tensor], ...]  # of x, W and m, each computed when it is asked for


class ModulatedMap(ABC):
    """What both forms share."""

    def __init__(
        self, x: Tensor, weight: Tensor, m: Tensor, demodulate: bool, eps: float, linear: Tensor | None = None
    ) -> None:
        self.x, self.weight, self.m, self.linear = x, weight, m, linear
        self.squares = weight.square()
        self.d = torch.rsqrt(m.square() @ self.squares.T + eps) if demodulate else None

    @abstractmethod
    def value(self) -> Tensor:
        """z."""

    @abstractmethod
    def gradients(self, grad: Tensor) -> Gradients:
        """From that of z."""

    def _with_d(self, of_x: Callable[[], Tensor], own: Gradients, of_q: Callable[[], Tensor]) -> Gradients:
        """The gradients of W and m with what reaches them through d."""
        of_weight, of_m = own
        if self.d is None:
            return of_x, of_weight, of_m
        return (
            of_x,
            lambda: of_weight() + 2 * self.weight * (of_q().T @ self.m.square()),
            lambda: of_m() + 2 * self.m * (of_q() @ self.squares),
        )


class ScaledMap(ModulatedMap):
    """d * ((x * m) W^T): one weight matrix for the whole batch."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.scaled_x = self.x * self.m.unsqueeze(1)
        self._raw: Tensor | None = None

    def raw(self) -> Tensor:
        """z / d, computed once (functools.cached_property has a lock, which torch.compile does not know)."""
        if self._raw is None:
            self._raw = linear_map(self.scaled_x, self.weight, value=self.linear)
        return self._raw

    def value(self) -> Tensor:
        return self._demodulated(self.raw())

    def gradients(self, grad: Tensor) -> Gradients:
        of_raw = self._demodulated(grad)

        @cache
        def of_scaled_x() -> Tensor:
            return product(of_raw, self.weight)

        @cache
        def of_q() -> Tensor:
            assert self.d is not None
            return -0.5 * self.d**3 * (grad * self.raw()).sum(1)

        def of_weight() -> Tensor:
            return weight_gradient(of_raw, self.scaled_x, self.weight.dim())

        own = of_weight, lambda: (of_scaled_x() * self.x).sum(1)
        return self._with_d(lambda: of_scaled_x() * self.m.unsqueeze(1), own, of_q)

    def _demodulated(self, raw: Tensor) -> Tensor:
        return raw if self.d is None else raw * self.d.unsqueeze(1)


class PerSampleMap(ModulatedMap):
    """x V^T with each sample's own weights V = d W m [B,O,I]."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.scaled_weight = self.weight if self.d is None else self.d.unsqueeze(-1) * self.weight
        self.weights = self.scaled_weight * self.m.unsqueeze(1)

    def value(self) -> Tensor:
        known = self.linear if self.linear is None or self.d is None else self.linear * self.d.detach().unsqueeze(1)
        return linear_map(self.x, self.weights, value=known)

    def gradients(self, grad: Tensor) -> Gradients:
        @cache
        def of_weights() -> Tensor:
            return product(grad.mT, self.x)

        @cache
        def through_weight() -> Tensor:
            return of_weights() * self.scaled_weight

        @cache
        def of_q() -> Tensor:  # summed with m over I, V's gradient times d W is d's times d
            assert self.d is not None
            return -0.5 * self.d.square() * (through_weight() * self.m.unsqueeze(1)).sum(-1)

        def of_weight() -> Tensor:
            through_m = of_weights() * self.m.unsqueeze(1)
            return (through_m if self.d is None else through_m * self.d.unsqueeze(-1)).sum(0)

        own = of_weight, lambda: through_weight().sum(1)
        return self._with_d(lambda: product(grad, self.weights), own, of_q)


def modulated_map(
    x: Tensor, weight: Tensor, m: Tensor, demodulate: bool, eps: float, linear: Tensor | None = None
) -> ModulatedMap:
    form = ScaledMap if prefer_scaled_form(x.shape[1], *reversed(weight.shape)) else PerSampleMap
    return form(x, weight, m, demodulate, eps, linear)


def prefer_scaled_form(rows: int, in_features: int, out_features: int) -> bool:
    """Whether scaling inputs and outputs moves less memory than a weight matrix per sample.

    `rows` N are those of one sample. The product itself costs the same in both forms. Beside it the scaled form reads
    and writes x and y once more, 2 N (I + O) numbers, and reads the shared weights once for d, O I. Per-sample weights
    are written, read for the sums of their squares, read and written to be normalised, and read by the product; with
    the read of the shared ones that is 6 O I.
    """
    scaled = 2 * rows * (in_features + out_features) + out_features * in_features
    per_sample = 6 * out_features * in_features
    return scaled <= per_sample
