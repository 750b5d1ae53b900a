"""Fourth stage: the implicit neural representation, a style-modulated MLP applied to every pixel's feature on its own.

feature [B,R,C], style w_appearance -> rgb [B,R,3]                         (paper section 3.2; official `CIPSNet`)
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from cips3d_ext import ModFC

LRELU_SLOPE = 0.2
RGB_INIT_DIVISOR = 100.0  # pictures start almost grey


class InrBlock(nn.Module):
    """Two ModFC layers, with the block's input added at the end where `skip` is set (official `SinBlock`)."""

    def __init__(self, in_features: int, width: int, style_dim: int, skip: bool, impl: str) -> None:
        super().__init__()
        # Weights * (style + 1), the layer's default: a zero style leaves the weights as they are.
        self.first = ModFC(in_features, width, style_dim, activation="lrelu", alpha=LRELU_SLOPE, impl=impl)
        self.second = ModFC(width, width, style_dim, activation="lrelu", alpha=LRELU_SLOPE, impl=impl)
        self.skip = skip

    def styles(self, style: Tensor) -> tuple[Tensor, Tensor]:
        return self.first.modulation(style), self.second.modulation(style)

    def forward(
        self, x: Tensor, styles: tuple[Tensor, Tensor], head: nn.Linear | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The block's output [B,R,W] and, with a head, the head's map of it [B,R,3]; both by the second layer's op."""
        hidden = self.first.apply_style(x, styles[0])
        skip = x if self.skip else None
        if head is None:
            return self.second.apply_style(hidden, styles[1], skip=skip), None
        y, rgb = self.second.apply_style_with_rgb(hidden, styles[1], head.weight, skip=skip)
        return y, rgb + head.bias.to(rgb.dtype)


class Inr(nn.Module):
    """A chain of blocks; the blocks in `rgb_blocks` each add a linear map of their output to the colour; then tanh."""

    def __init__(
        self,
        in_features: int,
        width: int,
        blocks: int,
        style_dim: int,
        rgb_blocks: tuple[int, ...],
        skip_blocks: tuple[int, ...],
        impl: str = "auto",
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            InrBlock(in_features if k == 0 else width, width, style_dim, k in skip_blocks, impl) for k in range(blocks)
        )
        heads = {str(k): nn.Linear(width, 3) for k in sorted(rgb_blocks)}
        bound = math.sqrt(6 / width) / RGB_INIT_DIVISOR
        for head in heads.values():
            nn.init.uniform_(head.weight, -bound, bound)
        self.to_rgb = nn.ModuleDict(heads)

    def styles(self, style: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The styles of every block's two layers, once an image, from w_appearance [B,W] or of each block [B,K,W]."""
        each = style.unbind(1) if style.ndim == 3 else [style] * len(self.blocks)
        return [cast(InrBlock, block).styles(w) for block, w in zip(self.blocks, each, strict=True)]

    def forward(self, features: Tensor, styles: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Colours [B,R,3] in [-1,1] of features [B,R,C]."""
        heads, x, colours = dict(self.to_rgb.items()), features, []
        for index, (block, style) in enumerate(zip(self.blocks, styles, strict=True)):
            x, rgb = block(x, style, heads.get(str(index)))
            if rgb is not None:
                colours.append(rgb)
        return torch.tanh(torch.stack(colours).sum(0))
