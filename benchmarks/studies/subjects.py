"""What is studied of a model: a preset, variants of it, and comparisons of these with the base."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Study:
    """One of a paper's comparisons: its claim, and variants by name; the base belongs to every study."""

    title: str
    claim: str
    variants: tuple[str, ...]


@dataclass(frozen=True)
class Subject:
    """`variants` are changes to the training preset by name, the base, without a change, first."""

    preset: str
    variants: dict[str, list[str]]
    studies: dict[str, Study]

    @property
    def base(self) -> str:
        return next(iter(self.variants))


def run_folder(out: Path, variant: str, seed: int) -> Path:
    return out / f"{variant}-seed{seed}"
