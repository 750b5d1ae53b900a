"""Batches of real pictures for training."""

from collections.abc import Generator, Iterator
from functools import partial

import torch
from torch import Tensor

from cips3d.data.base import ImageDataset
from cips3d.data.images import to_float
from cips3d.data.sampler import InfiniteSampler
from cips3d.data.workers import in_order

# Pictures uint8 [b,3,R,R], their labels, and the corrupt pictures that were met on the way.
Fetched = tuple[Tensor, Tensor, dict[int, str]]


class TrainingBatches:
    """Endless batches float32 [B/world,3,R,R] in [-1, 1] on `device`; saves and resumes bit-exactly.

    `batch_size` B counts the pictures of all ranks: rank r of `world` gets the r-th part of every batch, so that the
    parts side by side are the batch of a single process. The state counts the batches taken, not those that `workers`
    processes have decoded ahead, and is the same on every rank; a run may go on with other numbers of ranks and
    workers, which change nothing in the batches.

    With `with_labels`, `labels` [B/world,25] are those of the cameras of the batch given last.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        device: torch.device | str = "cpu",
        with_labels: bool = False,
    ) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"TrainingBatches: rank must be in [0, {world}), got {rank}")
        if workers < 0:
            raise ValueError(f"TrainingBatches: workers must be at least 0, got {workers}")
        self.dataset, self.rank, self.world = dataset, rank, world
        self.workers, self.device = workers, torch.device(device)
        self._taken = InfiniteSampler(len(dataset), seed)
        self._decoded: Generator[Fetched, None, None] | None = None
        self.with_labels, self.labels = with_labels, torch.empty(0)
        self.resize(batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        if self._decoded is None:
            on_gpu, fetch = self.device.type == "cuda", partial(_fetch_batch, self.dataset, self.with_labels)
            self._decoded = in_order(fetch, self._parts(), self.workers, self._taken.seed, pin=on_gpu)
        try:
            images, labels, corrupt = next(self._decoded)
            self.dataset.report(corrupt)
        except BaseException:
            self.close()
            raise
        self._taken.position += self.batch_size
        self.labels = labels.to(self.device, non_blocking=True)
        return to_float(images.to(self.device, non_blocking=True))

    def sample_labels(self, count: int, generator: torch.Generator) -> Tensor:
        """Labels [count,25] of the cameras of random pictures; the order of the batches stays."""
        indices = torch.randint(len(self.dataset), (count,), generator=generator, device=generator.device)
        return torch.stack([self.dataset.camera_label(index) for index in indices.tolist()]).to(self.device)

    def resize(self, batch_size: int) -> None:
        """Go on from the next picture in batches of another size."""
        if batch_size < 1 or batch_size % self.world:
            raise ValueError(
                f"TrainingBatches: batch_size must be at least 1 and a multiple of the {self.world} ranks, "
                f"got {batch_size}"
            )
        self.close()
        self.batch_size = batch_size

    def state_dict(self) -> dict[str, int]:
        return self._taken.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.close()
        self._taken.load_state_dict(state)

    def close(self) -> None:
        """End the workers. The next batch, if one is asked for, is the one that would have come."""
        if self._decoded is not None:
            self._decoded.close()
            self._decoded = None

    def _parts(self) -> Iterator[list[int]]:
        """The indices of this rank's part of every batch from here on."""
        ahead = InfiniteSampler(self._taken.size, self._taken.seed)
        ahead.load_state_dict(self._taken.state_dict())
        part = self.batch_size // self.world
        while True:
            batch = [next(ahead) for _ in range(self.batch_size)]
            yield batch[self.rank * part : (self.rank + 1) * part]


def _fetch_batch(dataset: ImageDataset, with_labels: bool, indices: list[int]) -> Fetched:
    images, corrupt = zip(*map(dataset.fetch, indices), strict=True)
    labels = torch.stack(list(map(dataset.camera_label, indices, corrupt))) if with_labels else torch.empty(0)
    return torch.stack(images), labels, {index: text for found in corrupt for index, text in found.items()}
