"""Editing of trained generators and of styles: stylisation, style mixing, walks from code to code."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cips3d.models.base import BaseGenerator
from cips3d.models.generator import Generator

SMALLEST_SINE = 1e-6  # of the angle between two codes, below which the arc between them is as good as straight


@torch.no_grad()
def blend(
    base: BaseGenerator, target: BaseGenerator, strength: float, blocks: Sequence[int] | None = None
) -> Generator:
    """A copy of `base` whose INR blocks, with their to-RGB heads, have gone `strength` of the way to those of `target`.

    0 is base; 1 swaps the chosen `blocks` (the official web demo: blocks 3 to 8). Without `blocks` all take part, and
    the appearance mapping with them, so that 1 draws as target does. Shape mapping and NeRF are always base's: `target`
    should be one that was transferred from base with frozen NeRF. Raises ValueError for generators of other
    configurations, strengths outside [0,1] and blocks that there are not.
    """
    if not isinstance(base, Generator):
        raise ValueError(f"blend: {base.config.model} has no INR to blend; wanted models of CIPS-3D")
    count = base.config.inr_blocks
    if target.config != base.config:
        raise ValueError("blend: base and target must have the same configuration; transfer with `cips3d train --from`")
    if not 0 <= strength <= 1:
        raise ValueError(f"blend: strength must be in [0,1], got {strength}")
    _check_blocks("blend", blocks or (), count)
    parts: tuple[str, ...] = ("inr.", "appearance_mapping.")
    if blocks is not None:
        parts = tuple(f"inr.{part}.{block}." for part in ("blocks", "to_rgb") for block in blocks)
    theirs, result = target.state_dict(), copy.deepcopy(base)
    result.load_state_dict(
        {
            name: torch.lerp(ours, theirs[name].to(ours), strength) if name.startswith(parts) else ours
            for name, ours in base.state_dict().items()
        }
    )
    return result


def mix_styles(style: Tensor, other: Tensor, blocks: Sequence[int], count: int) -> Tensor:
    """Styles [B,count,W] of each INR block: `other` [B,W] for the chosen `blocks`, `style` [B,W] for the rest.

    Raises ValueError for blocks outside 0 .. count - 1.
    """
    _check_blocks("mix_styles", blocks, count)
    chosen = torch.zeros(count, dtype=torch.bool, device=style.device)
    chosen[list(blocks)] = True
    return torch.where(chosen[:, None], other[:, None], style[:, None])


def walk(codes: Tensor, positions: Tensor, spherical: bool) -> Tensor:
    """Points [T,Z] at `positions` [T] >= 0 on the closed way through `codes` [K,Z].

    Position k + t is t of the way from code k to the next, from the last to the first: straight (for styles w), or
    along the arc (`spherical`, for codes z: the points stay as far from 0 as normal codes are).
    """
    start = positions.floor()
    index, share = start.long(), (positions - start)[:, None].to(codes)
    first, second = codes[index % len(codes)], codes[(index + 1) % len(codes)]
    straight = torch.lerp(first, second, share)
    if not spherical:
        return straight
    angle = F.cosine_similarity(first, second)[:, None].clamp(-1, 1).acos()
    sine = angle.sin()
    arc = (((1 - share) * angle).sin() * first + (share * angle).sin() * second) / sine
    return torch.where(sine < SMALLEST_SINE, straight, arc)


def _check_blocks(function: str, blocks: Sequence[int], count: int) -> None:
    wrong = [block for block in blocks if not 0 <= block < count]
    if wrong:
        raise ValueError(f"{function}: blocks must be in 0 .. {count - 1}, got {', '.join(map(str, wrong))}")
