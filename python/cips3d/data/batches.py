"""Batches of real pictures for training."""

from collections.abc import Iterator

import torch
from torch import Tensor

from cips3d.data.base import ImageDataset
from cips3d.data.images import to_float
from cips3d.data.sampler import InfiniteSampler


class TrainingBatches:
    """Endless batches float32 [B/world,3,R,R] in [-1, 1] of a data set; saves and resumes bit-exactly.

    `batch_size` B counts the pictures of all ranks: rank r of `world` gets the r-th part of every batch, so that the
    parts side by side are the batch of a single process. The state counts whole batches and is the same on every rank;
    a run may go on with another number of ranks.
    """

    def __init__(self, dataset: ImageDataset, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"TrainingBatches: rank must be in [0, {world}), got {rank}")
        if batch_size < 1 or batch_size % world:
            raise ValueError(
                f"TrainingBatches: batch_size must be at least 1 and a multiple of the {world} ranks, got {batch_size}"
            )
        self.dataset, self.batch_size, self.rank, self.world = dataset, batch_size, rank, world
        self._sampler = InfiniteSampler(len(dataset), seed)

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        indices = [next(self._sampler) for _ in range(self.batch_size)]
        part = self.batch_size // self.world
        mine = indices[self.rank * part : (self.rank + 1) * part]
        return to_float(torch.stack([self.dataset[index] for index in mine]))

    def state_dict(self) -> dict[str, int]:
        return self._sampler.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._sampler.load_state_dict(state)
